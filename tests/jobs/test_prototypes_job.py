"""The second reading that stage attack gives of a model with prototypes."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch import Tensor

from pipeline.data.image_set import ImageSet, Splits
from pipeline.evaluation.prototypes import last_prototypes
from pipeline.jobs import prototypes
from pipeline.jobs import trained as on_images
from pipeline.jobs.learner import new_learner
from pipeline.jobs.prototypes import judge_prototypes, readings
from pipeline.params.items import AttackItem
from pipeline.params.lookups import LOOKUPS
from pipeline.params.resolve import all_items, recipe
from pipeline.params.schema import load_params
from pipeline.training.state import Learner

CPU, PARAMS = torch.device("cpu"), load_params(ROOT / "params.yaml", LOOKUPS)
ITEM = all_items(PARAMS)["digits", "attack", "hcp"]
assert isinstance(ITEM, AttackItem)
FILE = Path("data/verdict/digits/hcp/0/prototypes.parquet")


def splits() -> Splits:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 1, 8, 8), generator=generator, dtype=torch.uint8).numpy()
    part = ImageSet(pixels, torch.arange(24).numpy() % 10)
    return Splits(part, part, part, [str(i) for i in range(10)], pixels.mean((0, 2, 3)) / 255, pixels.std((0, 2, 3)) / 255)


def learner(method: str) -> Learner:
    made = new_learner(recipe(PARAMS, "digits", method), splits(), CPU, seed=0)
    made.network.eval()
    return made


def judge(made: Learner, folder: Path, precision: str = "fp32") -> dict[str, float]:
    quick = ITEM.verdict.model_copy(
        update={"eps": 0.02, "adaptive": ITEM.verdict.adaptive.model_copy(update={"steps": 3, "targets": 2})}
    )
    compute = ITEM.compute.model_copy(update={"precision": precision})
    item = ITEM.model_copy(update={"verdict": quick, "batch_size": 10, "compute": compute})
    images, labels = on_images.test_images(splits(), "all", CPU)
    return judge_prototypes(item, 0, made.network, made.criterion, images=images, labels=labels, unfinished=folder)


def of(rows: pd.DataFrame, attack: str) -> pd.DataFrame:
    return rows[rows["attack"] == attack].reset_index(drop=True)


@pytest.mark.parametrize(
    ("method", "layer", "precision"), [("hcp", "layer5", "fp32"), ("atda", "logits", "fp32"), ("pcl", "layer5", "bf16")]
)
def test_rows_of_every_reading(method: str, layer: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = learner(method)
    found = judge(made, tmp_path / "kept", precision)
    rows = pd.read_parquet(FILE)
    assert set(rows["layer"]) == {layer}
    clean, worst = of(rows, "nearest/clean"), of(rows, "nearest")
    assert clean["image"].tolist() == worst["image"].tolist() == list(range(24))
    assert not (worst["correct"] & ~clean["correct"]).any()
    assert rows["accepted"][rows["attack"].str.startswith("nearest")].all()
    x, centres = torch.from_numpy(splits().test.images) / 255, made.criterion.losses[layer].centres
    with torch.no_grad():
        logits, features = made.network.forward_features(x)
        nearest = torch.cdist({**features, "logits": logits}[layer], centres).argmin(1)
    assert clean["prediction"].tolist() == nearest.tolist()
    assert found["nearest/clean"] == pytest.approx(100 * clean["correct"].mean())
    assert ("membership/clean" in set(rows["attack"])) == ("membership/coverage" in found) == (method == "hcp")


def test_membership_counts_what_is_wrong_and_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, x = learner("hcp"), torch.from_numpy(splits().test.images) / 255
    loss = made.criterion.losses["layer5"]
    with torch.no_grad():
        logits, features = made.network.forward_features(x)
        d = torch.cdist(features["layer5"], loss.centres)
        loss.radii.copy_(d.median(0).values.sqrt())  # r^2: half of the images
    found = judge(made, tmp_path / "kept")
    rows = pd.read_parquet(FILE)
    clean, worst = of(rows, "membership/clean"), of(rows, "membership")
    inside = d[torch.arange(24), logits.argmax(1)] <= d.median(0).values[logits.argmax(1)] + 1e-6
    assert clean["accepted"].tolist() == inside.tolist()
    assert clean["prediction"][~clean["accepted"]].eq(10).all()
    assert clean["prediction"][clean["accepted"]].tolist() == logits.argmax(1)[inside].tolist()
    broken = clean["accepted"] & ~clean["correct"]
    assert broken.any()
    assert (worst["accepted"] & ~worst["correct"])[broken].all()  # what was broken stays so
    assert set(of(rows, "membership/logits")["image"]) == set(clean["image"][~broken])
    assert found["membership/coverage"] == pytest.approx(100 * inside.double().mean().item())
    assert found["membership/broken"] == pytest.approx(100 * (worst["accepted"] & ~worst["correct"]).mean())


def test_a_rule_that_accepts_nothing_is_not_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = learner("hcp")
    with torch.no_grad():
        made.criterion.losses["layer5"].radii.zero_()
    found = judge(made, tmp_path / "kept")
    assert found["membership/coverage"] == 0
    assert "membership/broken" not in found
    attacks = set(pd.read_parquet(FILE)["attack"])
    assert {name for name in attacks if name.startswith("membership")} == {"membership/clean"}


def test_a_killed_run_goes_on_after_its_last_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = learner("hcp")
    with torch.no_grad():
        made.criterion.losses["layer5"].radii.fill_(9.0)  # all are accepted
    first = judge(made, tmp_path / "kept")
    rows = pd.read_parquet(FILE)
    assert set(rows["attack"]) >= {"nearest/t", "membership/t"}

    def never(*_: object, **__: object) -> Tensor:
        raise AssertionError("this attack was made before")

    monkeypatch.setattr(prototypes, "nearest_attacks", lambda *_, **__: dict.fromkeys(("logits", "ce", "ratio", "t"), never))
    monkeypatch.setattr(prototypes, "membership_attacks", lambda *_, **__: dict.fromkeys(("logits", "any", "t"), never))
    assert judge(made, tmp_path / "kept") == first
    pd.testing.assert_frame_equal(pd.read_parquet(FILE), rows)


def test_a_model_without_centres_has_no_second_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes(b"of other params")
    assert judge(learner("triplet"), tmp_path / "kept") == {}
    assert not FILE.exists()


def test_membership_is_attacked_on_the_model_itself() -> None:
    made = learner("hcp")
    own = last_prototypes(dict(made.criterion.losses.items()), list(made.network.dims))
    assert own is not None
    nearest, member = readings(made.network, own, torch.rand(4, 1, 8, 8), ITEM.verdict.adaptive, "fp32")
    assert nearest.victim.twin is not nearest.victim.model
    assert member.victim.twin is member.victim.model
