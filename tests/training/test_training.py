"""The training loop: its steps against torch written out, resuming, schedules, adversarial batches, divergence."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from pipeline.attacks.bim import bim
from pipeline.data.batches import crop_and_flip, to_float, training_batches
from pipeline.losses.hcp import HCP
from pipeline.models.network import Network
from pipeline.models.small_cnn import SmallCNN
from pipeline.runtime.checkpoint import load_state, save_state
from pipeline.training import loop
from pipeline.training.adversary import attacked_in_parts, clean_only, mixed_with_attacked
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


PLAIN: dict[str, Any] = {  # what `fit` is told where a test is about something else
    **{"adversary": clean_only, "precision": "fp32", "awp": None, "keep": "last", "params": {}},
    **{"validate": lambda last: {"validation_accuracy": 0.0}, "on_epoch": lambda row, rate: None},
}


def new_model(layers: list[str]) -> tuple[SmallCNN, Criterion]:
    torch.manual_seed(3)
    network = SmallCNN(10, torch.tensor([0.3]), torch.tensor([0.4]), widths=[8, 8, 8, 16], branch=6, penultimate=12)
    return network, criterion_for(network, partial(HCP, **HCP_OPTIONS) if layers else None, layers=layers)


def criterion_for(network: Network, loss: Callable[[int, int], nn.Module] | None = None, **changes: Any) -> Criterion:
    settings = {"name": "hcp", "layers": [], "auxiliary": [], "cross_entropy": 1.0, "input_gradient": 0.0, "trades": 0.0, **changes}
    return build_criterion(loss, dims=network.dims, classes=10, **settings)


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
    network, criterion = new_model(["layer4", "layer5"])
    images, labels = (digits[0] * 255).to(torch.uint8), digits[1]
    calls = iter(range(1, 100))

    def batches(generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = next(calls)
        for number, batch in enumerate(training_batches(images, labels, generator, batch_size=32, pad=1, flip=False)):
            if epoch == kill_in_epoch and number == 2:
                raise Killed
            yield batch

    attack = partial(
        mixed_with_attacked,
        attack=partial(bim, steps=steps, rel_step_size=0.5),
        eps_range=(0.1, 0.2),
        clean_share=0.5,
        labels="true",
    )
    groups = {"centres": PROTOTYPES, "radii": PROTOTYPES}
    optimizer = build_optimizer(network.parameters(), criterion.prototypes(), {**NETWORK, "lr": lr}, groups)
    rows = fit(
        Learner(network, criterion, optimizer, Generator().manual_seed(5)),
        batches=batches,
        images=len(images),
        epochs=epochs,
        adversary=attack if steps else clean_only,
        precision=precision,
        awp=None,
        validate=lambda last: {"validation_accuracy": float(network.eval().training)},  # 0, and leaves the network in eval mode
        keep="last",
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
        save_state(tmp_path / name, {"network": network.state_dict(), "criterion": criterion.state_dict()})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_training_that_began_on_a_gpu_goes_on_without_one(
    digits: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: pytest.fail("this training is on the CPU"))
    straight, _, _ = run_fit(digits, tmp_path / "straight.pt")
    with pytest.raises(Killed):
        run_fit(digits, tmp_path / "killed.pt", kill_in_epoch=3)
    save_state(tmp_path / "killed.pt", {**load_state(tmp_path / "killed.pt"), "cuda_rng": torch.zeros(16, dtype=torch.uint8)})
    resumed, _, _ = run_fit(digits, tmp_path / "killed.pt")
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


def test_training_learns_and_moves_centres_and_radii(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    before = new_model(["layer4", "layer5"])[1].state_dict()
    _, criterion, rows = run_fit(digits, tmp_path / "a.pt", epochs=20)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["train_accuracy"] > 30  # chance is 10
    assert all(not torch.equal(before[name], value) for name, value in criterion.state_dict().items())
    assert [row["epoch"] for row in rows] == list(range(1, 21))
    assert rows[9]["lr"] == 0.05
    assert rows[10]["lr"] == pytest.approx(0.005)
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][term] for term in ("ce", "hcp[layer4]", "hcp[layer5]")))


def test_bf16_learns_what_fp32_learns(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    full, half = (run_fit(digits, tmp_path / f"{name}.pt", epochs=6, precision=name)[2] for name in ("fp32", "bf16"))
    assert half[0]["loss"] != full[0]["loss"]  # it is another arithmetic
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.05)


def test_the_rate_is_images_by_seconds(digits: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=iter([10.0, 12.5, 20.0, 21.0]).__next__, monotonic=lambda: 0.0)
    monkeypatch.setattr(loop, "time", clock)
    network, criterion = new_model([])
    rates: list[float | None] = []
    fit(
        Learner(network, criterion, build_optimizer(network.parameters(), {}, NETWORK, {}), Generator()),
        batches=lambda generator: iter([(digits[0][:20].float(), digits[1][:20])] * 2),
        images=40,
        epochs=2,
        checkpoint=tmp_path / "c.pt",
        **{**PLAIN, "on_epoch": lambda row, rate: rates.append(rate)},
    )
    assert rates == [40 / 2.5, 40 / 1.0]


def test_one_step_equals_plain_torch_sgd(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = digits[0][:32].float(), digits[1][:32]
    ours, _ = new_model([])
    theirs, _ = new_model([])
    criterion = criterion_for(ours)
    fit(
        Learner(ours, criterion, build_optimizer(ours.parameters(), {}, {**NETWORK, "milestones": []}, {}), Generator()),
        batches=lambda generator: iter([(x, y)]),
        images=32,
        epochs=1,
        adversary=clean_only,
        precision="fp32",
        awp=None,
        validate=lambda last: {"validation_accuracy": 0.0},
        keep="last",
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
    with pytest.raises(DivergedError, match=r"epoch \d/4: the loss term hcp\[\w+\] became inf or NaN at step \d+") as error:
        run_fit(digits, tmp_path / "a.pt", lr=1e12)
    assert "ce " in str(error.value)


def test_finite_watch_names_the_term_and_what_came_before() -> None:
    watch = FiniteWatch(["ce", "hcp[layer4]"], torch.device("cpu"))
    watch.update(torch.tensor([2.0, 5.0]))
    watch.check("epoch 1")
    watch.update(torch.tensor([3.0, 1e30]))
    watch.update(torch.tensor([4.0, torch.inf]))
    watch.update(torch.tensor([torch.nan, torch.nan]))
    with pytest.raises(
        DivergedError,
        match=r"epoch 1: the loss term hcp\[layer4\] became inf or NaN at step 3 \(one step before: ce 3, hcp\[layer4\] 1e\+30\)",
    ):
        watch.check("epoch 1")


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1.0), (141, 1.0), (142, 0.1), (229, 0.1), (230, 0.01), (359, 0.01), (360, 0.001), (399, 0.001)]
)
def test_rates_fall_at_the_epochs_of_the_paper_given_either_way(epoch: int, expected: float) -> None:
    assert scheduled_lr(1.0, [142, 230, 360], 0.1, epoch, 400) == pytest.approx(expected)
    assert scheduled_lr(1.0, [0.355, 0.575, 0.9], 0.1, epoch, 400) == pytest.approx(expected)


def test_prototypes_have_groups_of_their_own() -> None:
    network, criterion = new_model(["layer4", "layer5"])
    optimizer = build_optimizer(
        network.parameters(), criterion.prototypes(), NETWORK, {"centres": PROTOTYPES, "radii": {**PROTOTYPES, "lr": 0.7}}
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert [tuple(p.shape) for p in groups["centres"]["params"]] == [(10, 16), (10, 12)]
    assert groups["radii"]["lr"] == 0.7
    assert len(groups["network"]["params"]) == len(list(network.parameters()))
    with pytest.raises(ValueError, match="the loss has centres, radii, settings are given for centres"):
        build_optimizer(network.parameters(), criterion.prototypes(), NETWORK, {"centres": PROTOTYPES})


def test_a_layer_that_the_network_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"the network has no conv9, choose from layer1, .*, logits"):
        new_model(["layer4", "conv9"])


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
            trained, x, y, generator, attack=attack, eps_range=(0.1, 0.3), clean_share=0.25, labels="true"
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
    images, labels, weight = mixed_with_attacked(
        trained, x, y, Generator(), attack=attack, eps_range=(0.1, 0.1), clean_share=0.0, labels="true"
    )
    torch.testing.assert_close(images, attack(trained, x, y, 0.1))
    assert len(labels) == len(weight) == 4


def test_one_process_draws_from_its_own_generator() -> None:
    """With several ranks the attack draws from a copy, so that all generators end alike."""

    def noise(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, generator: Generator) -> Tensor:
        return x + eps * torch.rand(x.shape, generator=generator)

    x, ours, theirs = torch.zeros(3, 1, 2, 2), Generator().manual_seed(1), Generator().manual_seed(1)
    attacked = attacked_in_parts(nn.Identity(), x, torch.zeros(3), 0.5, generator=ours, attack=noise)
    assert torch.equal(attacked, noise(nn.Identity(), x, torch.zeros(3), 0.5, generator=theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())


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


def test_white_is_one_and_black_is_nought() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])


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


def test_the_criterion_adds_up_what_params_say(digits: tuple[Tensor, Tensor]) -> None:
    """Terms, their weights and where they come from, against torch written out."""
    network, _ = new_model([])
    network.eval()
    loss = partial(HCP, **HCP_OPTIONS)
    criterion = criterion_for(network, loss, layers=["layer5", "logits"], auxiliary=["layer3"], cross_entropy=0.5)
    x, y = digits[0][:16].float(), digits[1][:16]
    logits, features = network.forward_features(x)
    weight = torch.rand(16, generator=Generator().manual_seed(0))
    terms = criterion(x, logits, features, y, weight)
    assert list(terms) == criterion.terms == ["ce", "hcp[layer5]", "hcp[logits]", "ce[layer3]"]
    torch.testing.assert_close(terms["ce"], 0.5 * weight @ nn.functional.cross_entropy(logits, y, reduction="none"))
    torch.testing.assert_close(terms["hcp[logits]"], weight @ criterion.losses["logits"](logits, y))
    head = criterion.heads["layer3"]
    by_hand = features["layer3"] @ head.weight.T + head.bias
    torch.testing.assert_close(terms["ce[layer3]"], weight @ (by_hand.logsumexp(1) - by_hand[torch.arange(16), y]))
    assert criterion_for(network, cross_entropy=0.0, auxiliary=["layer4"]).terms == ["ce[layer4]"]


def test_auxiliary_classifiers_learn_with_the_network_and_stay_out_of_it(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network, _ = new_model([])
    criterion = criterion_for(network, auxiliary=["layer3"])
    before = {name: value.clone() for name, value in criterion.state_dict().items()}
    weights = [*network.parameters(), *criterion.heads.parameters()]
    optimizer = build_optimizer(weights, criterion.prototypes(), {**NETWORK, "lr": 0.05}, {})
    images, labels = (digits[0] * 255).to(torch.uint8), digits[1]
    rows = fit(
        Learner(network, criterion, optimizer, Generator().manual_seed(5)),
        batches=partial(training_batches, images, labels, batch_size=32, pad=0, flip=False),
        images=len(images),
        epochs=15,
        checkpoint=tmp_path / "a.pt",
        **PLAIN,
    )
    assert rows[-1]["ce[layer3]"] < 0.8 * rows[0]["ce[layer3]"]
    assert all(not torch.equal(before[name], value) for name, value in criterion.state_dict().items())
    assert "layer3" not in " ".join(name for name, _ in network.named_parameters() if "head" in name)


def test_the_input_gradient_penalty_is_that_of_a_linear_model() -> None:
    """z = W x: d CE / d x = W^T (p - onehot), so the penalty has a closed form, and so has its gradient in W by differences."""

    class LinearNetwork(Network):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64, generator=Generator().manual_seed(0)))
            self.dims = {"layer5": 3}

        def forward_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            z = x.flatten(1) @ self.weight.T
            return z, {"layer5": z}

    network = LinearNetwork()
    x = torch.rand(5, 1, 2, 2, dtype=torch.float64, generator=Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 1, 0])

    def by_hand(weight: Tensor) -> Tensor:
        p = (x.flatten(1) @ weight.T).softmax(1) - nn.functional.one_hot(y, 3)
        return 0.3 * (p @ weight).square().sum(1)

    criterion = build_criterion(
        None, name="", layers=[], auxiliary=[], dims=network.dims, classes=3, cross_entropy=1.0, input_gradient=0.3, trades=0.0
    )
    seen = x.clone().requires_grad_()
    logits, features = network.forward_features(seen)
    terms = criterion(seen, logits, features, y, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(terms["input_gradient"], by_hand(network.weight.detach()).sum())
    terms["input_gradient"].backward()
    step = 1e-6
    for place in ((0, 0), (2, 3)):
        shift = torch.zeros(3, 4, dtype=torch.float64)
        shift[place] = step
        slope = (by_hand(network.weight.detach() + shift) - by_hand(network.weight.detach() - shift)).sum() / (2 * step)
        assert network.weight.grad is not None
        torch.testing.assert_close(network.weight.grad[place], slope, rtol=1e-6, atol=1e-8)


def test_the_input_gradient_penalty_makes_gradients_smaller(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    norms = {}
    for weight in (0.0, 1.0):
        network, _ = new_model([])
        criterion = criterion_for(network, input_gradient=weight)
        images, labels = (digits[0] * 255).to(torch.uint8), digits[1]
        fit(
            Learner(network, criterion, build_optimizer(network.parameters(), {}, NETWORK, {}), Generator().manual_seed(5)),
            batches=partial(training_batches, images, labels, batch_size=32, pad=0, flip=False),
            images=len(images),
            epochs=8,
            checkpoint=tmp_path / f"{weight}.pt",
            **PLAIN,
        )
        x = digits[0].float().requires_grad_()
        ce = nn.functional.cross_entropy(network.eval()(x), labels, reduction="sum")
        norms[weight] = torch.autograd.grad(ce, x)[0].square().sum().item()
    assert norms[1.0] < 0.5 * norms[0.0]


def test_an_attack_on_predicted_labels_does_not_see_the_true_ones(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    x, y = digits[0][:32], digits[1][:32]
    wrong = (y + 1) % 10
    attack = partial(bim, steps=1, rel_step_size=1.0)
    predicted = trained(x).argmax(1)
    statistics = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.train()  # as in the loop; what is predicted is what the model would say when it is used
    images, labels, _ = mixed_with_attacked(
        trained, x, wrong, Generator(), attack=attack, eps_range=(0.1, 0.1), clean_share=0.0, labels="predicted"
    )
    assert all(torch.equal(value, statistics[name]) for name, value in trained.state_dict().items())
    torch.testing.assert_close(images, attack(trained, x, predicted, 0.1))
    assert torch.equal(labels, wrong)  # the loss still has the true label
    assert not torch.equal(images, attack(trained, x, wrong, 0.1))


def test_a_clipped_step_has_the_length_that_params_allow(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """Without momentum and decay a step is lr x gradient: its length is lr x clip where the gradient is longer, else as it was."""
    x, y = digits[0][:32].float(), digits[1][:32]
    lengths = {}
    for clip in (None, 1e-3, 1e6):
        network, criterion = new_model([])
        before = torch.cat([p.detach().flatten() for p in network.parameters()])
        settings = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "milestones": [], "gamma": 1.0, "clip": clip}
        fit(
            Learner(network, criterion, build_optimizer(network.parameters(), {}, settings, {}), Generator()),
            batches=lambda generator: iter([(x, y)]),
            images=32,
            epochs=1,
            checkpoint=tmp_path / f"{clip}.pt",
            **PLAIN,
        )
        lengths[clip] = (torch.cat([p.detach().flatten() for p in network.parameters()]) - before).norm().item()
    assert lengths[1e-3] == pytest.approx(1e-4, rel=1e-2)
    assert lengths[1e6] == lengths[None] > 1e-3
