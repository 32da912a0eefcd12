"""The training loop: its steps against torch written out, resuming, schedules, adversarial batches, divergence."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from pipeline.attacks.bim import bim
from pipeline.checkpoint import load_state, save_state
from pipeline.data.batches import crop_and_flip, to_float, training_batches
from pipeline.losses.hcp import HCP
from pipeline.models.small_cnn import SmallCNN
from pipeline.training.adversary import clean_only, mixed_with_attacked
from pipeline.training.criterion import Criterion, build_criterion
from pipeline.training.finite import DivergedError, FiniteWatch
from pipeline.training.loop import fit
from pipeline.training.optimizer import build_optimizer, scheduled_lr
from pipeline.training.state import Learner, Row

NETWORK = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "milestones": [0.5], "gamma": 0.1}
PROTOTYPES = {"lr": 0.02, "momentum": 0.0, "weight_decay": 0.0, "milestones": [], "gamma": 0.1}
HCP_OPTIONS = {
    "margin": 1.0,
    "proximity": 1.0,
    "negative": 1.0,
    "distance": "euclidean",
    "reduction": "sum",
    "centre_init": "uniform",
    "c": 0.0,
    "e": 0.001,
}


class Killed(BaseException):
    """Stands for the signal that ends a process in the middle of an epoch."""


def new_model(layers: list[str]) -> tuple[SmallCNN, Criterion]:
    torch.manual_seed(3)
    network = SmallCNN(10, torch.tensor([0.3]), torch.tensor([0.4]), widths=[8], gap=16, fc=12)
    return network, build_criterion(partial(HCP, **HCP_OPTIONS) if layers else None, "hcp", layers, network.dims, 10)


def run_fit(
    digits: tuple[Tensor, Tensor],
    checkpoint: Path,
    *,
    epochs: int = 4,
    lr: float = 0.05,
    kill_in_epoch: int | None = None,
    steps: int = 0,
    precision: str = "fp32",
) -> tuple[SmallCNN, Criterion, list[Row]]:
    network, criterion = new_model(["gap", "fc"])
    images, labels = (digits[0] * 255).to(torch.uint8), digits[1]
    calls = iter(range(1, 100))

    def batches(generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = next(calls)
        for number, batch in enumerate(training_batches(images, labels, generator, batch_size=32, pad=1, flip=False)):
            if epoch == kill_in_epoch and number == 2:
                raise Killed
            yield batch

    attack = partial(
        mixed_with_attacked, attack=partial(bim, steps=steps, rel_step_size=0.5), eps_range=(0.1, 0.2), clean_share=0.5
    )
    groups = {"centres": PROTOTYPES, "radii": PROTOTYPES}
    optimizer = build_optimizer(network, criterion.prototypes(), {**NETWORK, "lr": lr}, groups)
    rows = fit(
        Learner(network, criterion, optimizer, Generator().manual_seed(5)),
        batches=batches,
        images=len(images),
        epochs=epochs,
        adversary=attack if steps else clean_only,
        precision=precision,
        validate=lambda: float(network.eval().training),  # 0, and leaves the network in eval mode
        checkpoint=checkpoint,
        params={"seed": 5},
        on_epoch=lambda row, rate: None,
    )
    return network, criterion, rows


def test_a_killed_run_goes_on_from_its_last_epoch_and_ends_with_the_same_bytes(
    digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    straight = run_fit(digits, tmp_path / "straight.pt", steps=2)
    with pytest.raises(Killed):
        run_fit(digits, tmp_path / "killed.pt", steps=2, kill_in_epoch=3)
    state = load_state(tmp_path / "killed.pt")
    assert len(state["rows"]) == 2
    assert state["params"] == {"seed": 5}
    assert {name.split(".")[-1] for name in state["criterion"]} == {"centres", "radii"}
    resumed = run_fit(digits, tmp_path / "killed.pt", steps=2)
    for one, other in zip(straight[:2], resumed[:2], strict=True):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert straight[2] == resumed[2]
    for name, (network, criterion, _) in {"a.pt": straight, "b.pt": resumed}.items():
        save_state(tmp_path / name, {"network": network.state_dict(), "prototypes": criterion.state_dict()})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_training_learns_and_moves_centres_and_radii(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    before = new_model(["gap", "fc"])[1].state_dict()
    _, criterion, rows = run_fit(digits, tmp_path / "a.pt", epochs=20)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["train_accuracy"] > 30  # chance is 10
    assert all(not torch.equal(before[name], value) for name, value in criterion.state_dict().items())
    assert [row["epoch"] for row in rows] == list(range(1, 21))
    assert rows[9]["lr"] == 0.05
    assert rows[10]["lr"] == pytest.approx(0.005)
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][term] for term in ("ce", "hcp[gap]", "hcp[fc]")))


def test_bf16_learns_what_fp32_learns(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    full, half = (run_fit(digits, tmp_path / f"{name}.pt", epochs=6, precision=name)[2] for name in ("fp32", "bf16"))
    assert half[0]["loss"] != full[0]["loss"]  # it is another arithmetic
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.05)


def test_one_step_equals_plain_torch_sgd(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = digits[0][:32].float(), digits[1][:32]
    ours, _ = new_model([])
    theirs, _ = new_model([])
    criterion = build_criterion(None, "none", [], ours.dims, 10)
    fit(
        Learner(ours, criterion, build_optimizer(ours, {}, {**NETWORK, "milestones": []}, {}), Generator()),
        batches=lambda generator: iter([(x, y)]),
        images=32,
        epochs=1,
        adversary=clean_only,
        precision="fp32",
        validate=lambda: 0.0,
        checkpoint=tmp_path / "c.pt",
        params={"seed": 5},
        on_epoch=lambda row, rate: None,
    )
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    nn.functional.cross_entropy(theirs(x), y).backward()
    optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_diverging_loss_stops_with_the_name_of_its_term(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"epoch \d/4: the loss term hcp\[\w+\] left the finite numbers at step \d+") as error:
        run_fit(digits, tmp_path / "a.pt", lr=1e12)
    assert "ce " in str(error.value)


def test_finite_watch_names_the_term_and_what_came_before() -> None:
    watch = FiniteWatch(["ce", "hcp[gap]"], torch.device("cpu"))
    watch.update(torch.tensor([2.0, 5.0]))
    watch.check("epoch 1")
    watch.update(torch.tensor([3.0, 1e30]))
    watch.update(torch.tensor([4.0, torch.inf]))
    watch.update(torch.tensor([torch.nan, torch.nan]))
    with pytest.raises(
        DivergedError, match=r"epoch 1: the loss term hcp\[gap\] left .* at step 3 \(one step before: ce 3, hcp\[gap\] 1e\+30\)"
    ):
        watch.check("epoch 1")


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1.0), (141, 1.0), (142, 0.1), (229, 0.1), (230, 0.01), (359, 0.01), (360, 0.001), (399, 0.001)]
)
def test_rates_fall_at_the_epochs_of_the_paper_given_either_way(epoch: int, expected: float) -> None:
    assert scheduled_lr(1.0, [142, 230, 360], 0.1, epoch, 400) == pytest.approx(expected)
    assert scheduled_lr(1.0, [0.355, 0.575, 0.9], 0.1, epoch, 400) == pytest.approx(expected)


def test_prototypes_have_groups_of_their_own() -> None:
    network, criterion = new_model(["gap", "fc"])
    optimizer = build_optimizer(
        network, criterion.prototypes(), NETWORK, {"centres": PROTOTYPES, "radii": {**PROTOTYPES, "lr": 0.7}}
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert [tuple(p.shape) for p in groups["centres"]["params"]] == [(10, 16), (10, 12)]
    assert groups["radii"]["lr"] == 0.7
    assert len(groups["network"]["params"]) == len(list(network.parameters()))
    with pytest.raises(ValueError, match="the loss has centres, radii, settings are given for centres"):
        build_optimizer(network, criterion.prototypes(), NETWORK, {"centres": PROTOTYPES})


def test_a_layer_that_the_network_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="the network has no conv9, choose from gap, fc"):
        new_model(["gap", "conv9"])


def test_adversarial_batch_is_half_clean_half_attacked_and_weighs_both_by_lambda(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:16], digits[1][:16]
    seen: list[float] = []

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, generator: Generator) -> Tensor:
        seen.append(eps)
        return (x + eps).clamp(max=1)

    generator = Generator().manual_seed(0)
    for _ in range(200):
        images, labels, weight = mixed_with_attacked(
            trained, x, y, generator, attack=attack, eps_range=(0.1, 0.3), clean_share=0.25
        )
    assert torch.equal(images[:16], x)
    assert torch.equal(images[16:], (x + seen[-1]).clamp(max=1))
    assert torch.equal(labels, torch.cat([y, y]))
    torch.testing.assert_close(weight, torch.tensor([0.25 / 16] * 16 + [0.75 / 16] * 16, dtype=torch.float64))
    assert min(seen) >= 0.1
    assert max(seen) <= 0.3
    assert sum(seen) / 200 == pytest.approx(0.2, abs=0.02)  # uniform: the mean is in the middle, the spread is width / sqrt(12)
    assert torch.tensor(seen).std().item() == pytest.approx(0.2 / 12**0.5, abs=0.01)


def test_clean_share_zero_trains_on_attacked_images_only(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:4], digits[1][:4]
    attack = partial(bim, steps=1, rel_step_size=1.0)
    images, labels, weight = mixed_with_attacked(trained, x, y, Generator(), attack=attack, eps_range=(0.1, 0.1), clean_share=0.0)
    torch.testing.assert_close(images, attack(trained, x, y, 0.1))
    assert len(labels) == len(weight) == 4


def test_small_cnn_names_its_features_and_takes_each_size() -> None:
    for channels, size in ((1, 8), (3, 8), (1, 28), (3, 32)):
        network = SmallCNN(7, torch.full((channels,), 0.5), torch.ones(channels), widths=[4, 8], gap=16, fc=12)
        logits, features = network.forward_features(torch.rand(2, channels, size, size))
        assert logits.shape == (2, 7)
        assert {name: tuple(feature.shape) for name, feature in features.items()} == {"gap": (2, 16), "fc": (2, 12)}
        assert network.dims == {"gap": 16, "fc": 12}
        # convolutions without bias 9 * in * out, batch norm 2 * out, linear (in + 1) * out
        conv = sum(9 * a * b + 2 * b for a, b in ((channels, 4), (4, 8), (8, 16)))
        assert sum(p.numel() for p in network.parameters()) == conv + 17 * 12 + 13 * 7


def test_the_network_normalises_pixels_itself() -> None:
    torch.manual_seed(0)
    network = SmallCNN(3, torch.tensor([0.25]), torch.tensor([0.5]), widths=[2], gap=2, fc=2).eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(network.trunk[0](x), (x - 0.25) / 0.5)
    assert {name for name, _ in network.named_buffers()} >= {"trunk.0.mean", "trunk.0.std"}


def test_crops_are_shifts_with_zeros_and_flips_are_mirrors() -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).reshape(1, 1, 4, 4)
    padded = nn.functional.pad(image, (1, 1, 1, 1))
    windows = [padded[0, :, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    result = crop_and_flip(image.expand(500, 1, 4, 4), Generator().manual_seed(0), pad=1, flip=False)
    found = [next(k for k, window in enumerate(windows) if torch.equal(window, out)) for out in result]
    assert set(found) == set(range(9))
    flipped = crop_and_flip(image.expand(500, 1, 4, 4), Generator().manual_seed(0), pad=0, flip=True)
    mirrored = sum(torch.equal(out, image[0].flip(2)) for out in flipped)
    assert mirrored + sum(torch.equal(out, image[0]) for out in flipped) == 500
    assert 200 < mirrored < 300


def test_an_epoch_gives_every_image_once_with_its_label() -> None:
    images = torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1)
    batches = list(training_batches(images, torch.arange(50), Generator().manual_seed(0), batch_size=16, pad=0, flip=False))
    assert [len(y) for _, y in batches] == [16, 16, 16, 2]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    assert sorted(y.tolist()) == list(range(50))
    assert y.tolist() != list(range(50))
    torch.testing.assert_close(x.flatten() * 255, y.float())
    assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


def test_loading_a_checkpoint_executes_nothing(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"network": Touch()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_state(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()


def test_a_damaged_or_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    save_state(tmp_path / "a.pt", {"x": torch.rand(1000)})
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"a\.pt is damaged .* delete it and run `dvc checkout` or `dvc repro`"):
        load_state(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"b\.pt does not exist; `dvc repro` makes it"):
        load_state(tmp_path / "b.pt")


def test_a_write_takes_the_place_of_the_old_file_in_one_step(tmp_path: Path) -> None:
    save_state(tmp_path / "a.pt", {"x": 1})
    (tmp_path / "old.pt").hardlink_to(tmp_path / "a.pt")  # what a reader who has the old file open goes on seeing
    save_state(tmp_path / "a.pt", {"x": 2})
    assert load_state(tmp_path / "old.pt") == {"x": 1}
    assert load_state(tmp_path / "a.pt") == {"x": 2}


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "a.pt", {"x": 1})

    def full_disk(state: object, file: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path / "a.pt", {"x": 2})
    assert load_state(tmp_path / "a.pt") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
