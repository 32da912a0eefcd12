"""What is left of a method: the join of two stages by image, and the statuses."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting.run import Dataset, Kind, Method
from pipeline.reporting.tables import accuracy_rows
from pipeline.reporting.verdict.breakdown import broken_frame, curves_frame
from pipeline.reporting.verdict.outcomes import load_learnt, load_parts, load_shown, load_verdict, second_versions, worst_case
from pipeline.reporting.verdict.status import (
    FALLS,
    GROUPS,
    HOLDS,
    LOOKED,
    MASKED,
    UNTRAINED,
    group_of,
    next_step,
    status_frame,
    status_of,
    summary,
    undefended_method,
    verdict_frame,
)

EPS = 0.1
DATASETS = {"digits": Dataset([EPS], [], [1.0], table_eps=EPS, table_c=1.0, headline_eps=EPS, epochs={})}
PARTS = ["apgd_ce", "square"]


def outcomes(attack: str, right: list[int], eps: float = EPS, images: tuple[int, ...] = (0, 1, 2, 3)) -> pd.DataFrame:
    """right: the images that the model gets right."""
    correct = [image in right for image in images]
    linf = 1.0 if attack.startswith(("cw", "noise", "autoattack_l2")) else eps  # eps is another thing there
    columns = {"image": images, "label": [i % 2 for i in images], "attack": attack, "eps": eps, "correct": correct}
    return pd.DataFrame({**columns, "linf": linf, "l2": 8 * linf, "mse": 0.0})


VERDICT = pd.concat(
    [
        outcomes("clean", [0, 1, 2], eps=0.0),
        outcomes("autoattack/apgd_ce", [0, 1], images=(0, 1, 2)),
        outcomes("autoattack/square", [1], images=(0, 1)),
        outcomes("autoattack", [1]),
        outcomes("autoattack_l2/apgd_ce", [0], images=(0, 1, 2)),
        outcomes("autoattack_l2/square", [], images=(0,)),
        outcomes("autoattack_l2", []),
        outcomes("adaptive/dlr", [0, 1]),
        outcomes("adaptive", [0, 1]),
        outcomes("steps/10", [0, 1, 2]),
        outcomes("unbounded", [], eps=1.0),
    ]
)
OTHER = pd.concat(
    [
        outcomes("clean", [0, 1, 2], eps=0.0),
        outcomes("fgsm", [0, 1, 2]),
        outcomes("fgsm", [], eps=0.2),
        outcomes("pgd", [1, 2]),
        outcomes("cw", []),
        outcomes("noise_sample", []),
    ]
)


def test_robust_is_the_worst_of_all_that_was_tried_within_eps() -> None:
    rows = worst_case(VERDICT, [OTHER], EPS)
    assert rows["correct"].tolist() == [False, True, False, False]
    assert rows["image"].tolist() == [0, 1, 2, 3]
    for attack, eps in (("adaptive_pgd", EPS), ("pgd", 0.05)):  # images of a smaller ball are in the larger one too
        assert not worst_case(VERDICT, [pd.concat([OTHER, outcomes(attack, [], eps)])], EPS)["correct"].any()
    with pytest.raises(ValueError, match="different images"):
        worst_case(VERDICT, [OTHER[OTHER["image"] < 3]], EPS)
    more = pd.concat([OTHER, outcomes("pgd", [], images=(4, 5))])  # the verdict is on the first images alone
    assert worst_case(VERDICT, [more], EPS)["correct"].tolist() == [False, True, False, False]


def test_images_of_attacks_without_a_bound_count_where_they_happen_to_be_near() -> None:
    near = outcomes("cw", [], images=(1,)).assign(linf=EPS)
    assert not worst_case(VERDICT, [pd.concat([OTHER, near])], EPS)["correct"].any()
    far = near.assign(linf=EPS + 1e-4)
    assert worst_case(VERDICT, [pd.concat([OTHER, far])], EPS)["correct"].tolist() == [False, True, False, False]


def test_images_made_on_other_models_count_where_they_are_within_eps() -> None:
    shown = outcomes("pgd", [], eps=0.3).assign(target="hcp")
    assert worst_case(VERDICT, [OTHER, shown], EPS)["correct"].tolist() == [False, True, False, False]
    shown.loc[shown["image"] == 1, "linf"] = 0.08  # of an attack at 0.3, but it moved that little
    assert not worst_case(VERDICT, [OTHER, shown], EPS)["correct"].any()


def test_images_made_on_other_models_are_counted_among_those_of_the_verdict(tmp_path: Path) -> None:
    """Of six the model gets two right, of the first four both of them."""
    shown = outcomes("pgd", [0, 3], images=(0, 1, 2, 3, 4, 5)).assign(source="vgg", target="hcp")
    (tmp_path / "digits").mkdir()
    shown.to_parquet(tmp_path / "digits/0.parquet", index=False)
    (row,) = load_shown(tmp_path, {"digits": 4}, [0]).to_dict("records")
    assert row == {
        **dict.fromkeys(("seed",), 0),
        "dataset": "digits",
        "method": "hcp",
        "source": "vgg",
        "attack": "pgd",
        "eps": EPS,
        "accuracy": 50.0,
    }
    assert load_shown(tmp_path, {}, [0]).empty


@pytest.mark.parametrize(
    ("status", "group", "said"),
    [
        (LOOKED, "Loss on features", "add adversarial training"),
        (LOOKED, "Loss on features + adversarial training", "train longer"),
        (FALLS, "Adversarial training", "train longer"),
        (HOLDS, "Adversarial training", "more images and seeds"),
    ],
)
def test_what_to_try_next_is_nothing_that_was_done(status: str, group: str, said: str) -> None:
    assert said in next_step(status, group)


def test_in_l2_the_distance_is_that_of_l2() -> None:
    own = pd.concat([outcomes("clean", [0, 1], 0.0), outcomes("autoattack", [0]), outcomes("unbounded", [], 1.0)])
    assert worst_case(own, [own], 8 * EPS, norm="l2")["correct"].tolist() == [True, False, False, False]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for stage, frame in (("attacks", OTHER), ("verdict", VERDICT)):
        for seed in (0, 1):
            folder = tmp_path / stage / "digits" / "hcp" / str(seed)
            folder.mkdir(parents=True)
            frame.to_parquet(folder / "outcomes.parquet", index=False)
    return tmp_path


def verdict_cells(folders: Path) -> pd.DataFrame:
    return load_verdict(folders / "attacks", folders / "verdict", None, headline_eps={"digits": EPS}, methods=["hcp"], seeds=[0, 1])


def test_cells_and_parts_equal_the_values_worked_by_hand(folders: Path) -> None:
    cells = verdict_cells(folders)
    found = cells[cells["seed"] == 0].set_index("attack")["accuracy"].to_dict()
    wanted = {"autoattack": 25.0, "autoattack_l2": 0.0, "adaptive": 50.0, "adaptive/dlr": 50.0, "robust": 25.0}
    assert found == wanted | {"steps/10": 75.0, "unbounded": 0.0}
    parts = load_parts(folders / "verdict", datasets=["digits"], methods=["hcp"], seeds=[0], names=PARTS)
    assert parts[["attack", "images", "broken", "left"]].to_numpy().tolist() == [
        ["autoattack/apgd_ce", 4, 25.0, 50.0],
        ["autoattack/square", 4, 25.0, 25.0],
        ["autoattack_l2/apgd_ce", 4, 50.0, 25.0],
        ["autoattack_l2/square", 4, 25.0, 0.0],
    ]
    with pytest.raises(ValueError, match="run `dvc repro attack`"):
        load_parts(folders / "verdict", datasets=["digits"], methods=["pcl"], seeds=[0], names=PARTS)


def test_a_part_that_one_seed_had_nothing_left_for_counts_as_nothing_left(folders: Path) -> None:
    ended = VERDICT[VERDICT["attack"] != "autoattack/square"].copy()
    ended.loc[ended["attack"].str.startswith("autoattack"), "correct"] = False
    ended.to_parquet(folders / "verdict/digits/hcp/1/outcomes.parquet", index=False)
    parts = load_parts(folders / "verdict", datasets=["digits"], methods=["hcp"], seeds=[0, 1], names=PARTS)
    square = parts[parts["attack"] == "autoattack/square"]
    assert square[["seed", "broken", "left"]].to_numpy().tolist() == [[0, 25.0, 25.0], [1, 0.0, 0.0]]


def test_breakdown_and_curves(folders: Path) -> None:
    rows = [
        ("clean", 0.0, 75.0),
        ("fgsm", EPS, 75.0),
        ("fgsm", 0.2, 0.0),
        ("pgd", EPS, 50.0),
        ("cw", 1.0, 0.0),
        ("noise_sample", 5.0, 0.0),
    ]
    cells = pd.DataFrame(rows, columns=["attack", "eps", "accuracy"]).assign(
        dataset="digits", method="hcp", images=4, chance=50.0, mse=0.0
    )
    cells = pd.concat([cells.assign(seed=seed) for seed in (0, 1)])
    parts = load_parts(folders / "verdict", datasets=["digits"], methods=["hcp"], seeds=[0, 1], names=PARTS)
    broken = broken_frame(cells, verdict_cells(folders), parts, DATASETS, {"hcp": "HCP"})
    assert broken[["suite", "attack", "broken", "left"]].to_numpy().tolist() == [
        ["paper", "fgsm", 0.0, 75.0],
        ["paper", "pgd", 25.0, 50.0],
        ["adaptive", "adaptive/dlr", 25.0, 50.0],
        ["autoattack", "autoattack/apgd_ce", 25.0, 50.0],
        ["autoattack", "autoattack/square", 25.0, 25.0],
        ["autoattack_l2", "autoattack_l2/apgd_ce", 50.0, 25.0],
        ["autoattack_l2", "autoattack_l2/square", 25.0, 0.0],
    ]
    assert set(broken["label"]) == {"HCP"}
    curves = curves_frame(cells, verdict_cells(folders), {"hcp": "HCP"})
    found = {(attack, eps): value for attack, eps, value in curves[["attack", "eps", "measured"]].itertuples(index=False)}
    assert found == {
        ("clean", 0.0): 75.0,
        ("fgsm", EPS): 75.0,
        ("fgsm", 0.2): 0.0,
        ("pgd", EPS): 50.0,
        ("autoattack", EPS): 25.0,
        ("unbounded", 1.0): 0.0,
    }


def method(name: str, group: str = "Other", **accuracy: float) -> pd.DataFrame:
    """Rows of a verdict frame; an interval reaches 2 points to each side, chance is 10 %."""
    rows = [{"attack": attack, "measured": value} for attack, value in accuracy.items()]
    frame = pd.DataFrame(rows).assign(dataset="d", method=name, label=name.upper(), group=group, chance=10.0, seeds=1, images=1000)
    frame["seed_std"] = float("nan")
    return frame.assign(ci95_low=frame["measured"] - 2, ci95_high=frame["measured"] + 2)


MASKING = pd.DataFrame(
    [("d", "a", "zero gradient", False), ("d", "a", "flat gradient", True), ("d", "b", "zero gradient", True)],
    columns=["dataset", "method", "check", "passed"],
).assign(near=False)
NONE = MASKING.iloc[:0]
SOFTMAX = method("softmax_fs", clean=98, fgsm=20, pgd=3, cw=5, autoattack=0, robust=0)


@pytest.mark.parametrize(
    ("rows", "status", "note"),
    [
        (method("at", clean=80, fgsm=50, pgd=45, autoattack=41, robust=40), HOLDS, "keeps 50 % of clean"),
        (
            method("at", clean=80, fgsm=50, pgd=45, autoattack=23, robust=22.5),
            HOLDS,
            "keeps 28 % of clean; near the half that must stay",
        ),
        (method("at", clean=80, fgsm=50, pgd=45, autoattack=23, robust=22.8), HOLDS, "keeps 28 % of clean"),
        (method("at", clean=80, fgsm=50, pgd=45, autoattack=23, robust=22), LOOKED, "keeps 22 of the 45 % under PGD"),
        (method("pcl", clean=98, fgsm=47, pgd=3, autoattack=0, robust=0), LOOKED, "47 % under FGSM"),
        (method("pcl", clean=98, fgsm=47, pgd=15, cw=60, robust=11), LOOKED, "47 % under FGSM"),
        (method("pcl", clean=98, fgsm=23, pgd=11.9, autoattack=0, robust=0), FALLS, ""),  # intervals touch
        (method("pcl", clean=98, fgsm=2, adaptive_pgd=60, autoattack=50, robust=0), FALLS, ""),
        (method("bad", clean=11, fgsm=10, robust=9), UNTRAINED, "11 % without any attack, chance is 10 %"),
    ],
)
def test_status(rows: pd.DataFrame, status: str, note: str) -> None:
    assert status_of(rows, SOFTMAX, NONE) == (status, note)


@pytest.mark.parametrize(
    ("right", "images", "learnt"),
    [(20.0, 50, False), (21.0, 100, True), (15.0, 100, False), (9.0, 1000, False)],  # Wilson: 11.2, 14.2, 9.3 and 7.4 % at least
)
def test_a_model_at_chance_under_the_attack_of_its_training_has_not_learnt(right: float, images: int, learnt: bool) -> None:
    rows = method("madry", clean=80, fgsm=50, pgd=45, robust=40).assign(chance=11.5)
    columns = ["dataset", "method", "seed", "accuracy", "images"]
    own = accuracy_rows(pd.DataFrame([("d", "madry", 0, right, images)], columns=columns), ["dataset", "method"])
    status = status_of(rows, SOFTMAX, NONE, own)
    note = f"{right:.0f} % of validation images under the attack of its training, chance is 12 %"
    assert status == ((HOLDS, "keeps 50 % of clean") if learnt else (UNTRAINED, note))
    both = pd.concat([rows, method("pcl", clean=98, fgsm=47, robust=0)])
    assert status_frame(both, NONE, None, learnt=own)["status"].tolist() == ([HOLDS, LOOKED] if learnt else [LOOKED, UNTRAINED])


def test_what_training_has_measured_is_read_from_the_record_of_the_attacks(tmp_path: Path) -> None:
    for name, robust in {"at/0": 40.0, "at/1": 60.0, "pcl/0": None, "pcl/1": None}.items():
        (tmp_path / "d" / name).mkdir(parents=True)
        record = {"params": {"validation": {"images": 200, "robust": robust}}}
        (tmp_path / "d" / name / "run.json").write_text(json.dumps(record))
    found = load_learnt(tmp_path, datasets=["d"], methods=["at", "pcl"], seeds=[0, 1])
    assert found[["method", "measured", "images", "seeds"]].to_numpy().tolist() == [["at", 50.0, 200, 2]]


def test_what_the_undefended_model_keeps_too_is_no_defence() -> None:
    at_small_eps = method("softmax_fs", clean=98, fgsm=80, pgd=70, robust=69)
    assert status_of(at_small_eps, at_small_eps, NONE) == (FALLS, "")
    assert status_of(method("pcl", clean=98, fgsm=90, pgd=72, robust=70), at_small_eps, NONE) == (LOOKED, "90 % under FGSM")
    assert status_of(method("at", clean=98, fgsm=90, pgd=80, robust=75), at_small_eps, NONE).name == HOLDS


def test_without_an_undefended_model_chance_is_the_measure() -> None:
    rows = method("pcl", clean=98, fgsm=13, robust=0)
    assert status_of(rows, SOFTMAX.iloc[:0], NONE).name == LOOKED
    assert status_frame(rows, MASKING.iloc[:0], None)["status"].tolist() == [LOOKED]
    both = pd.concat([rows, method("softmax", clean=98, fgsm=13, robust=0)])
    assert status_frame(both, MASKING.iloc[:0], "softmax")["status"].tolist() == [FALLS, FALLS]


def test_the_status_counts_the_spread_over_seeds() -> None:
    def spread(rows: pd.DataFrame, std: float) -> pd.DataFrame:
        return rows.assign(seeds=4, seed_std=std)

    rows = method("at", clean=80, fgsm=25, pgd=9, robust=7)
    assert status_of(spread(rows, 0.5), SOFTMAX, NONE).name == LOOKED
    assert status_of(spread(rows, 1.1), SOFTMAX, NONE).name == FALLS  # 25 - 2 - 1.96 * 1.1 / 2 is below 22
    assert status_of(rows, spread(SOFTMAX, 1.1), NONE).name == FALLS  # the undefended model's, too
    robust = method("at", clean=80, fgsm=50, pgd=20, robust=13)
    assert status_of(robust, SOFTMAX, NONE).name == HOLDS
    assert status_of(spread(robust, 1.1), SOFTMAX, NONE).name == LOOKED  # 13 - 2 - 1.1 against a chance of 10
    assert status_of(spread(method("bad", clean=13, fgsm=1, robust=0), 1.1), SOFTMAX, NONE).name == UNTRAINED


def test_the_group_follows_from_what_a_method_is() -> None:
    found = [group_of(Kind(*kind)) for kind in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1))]
    assert tuple(found) == GROUPS
    assert group_of(Kind(True, False, True)) == "Loss on features"


def test_the_undefended_model_is_the_published_softmax_or_the_first_without_a_defence() -> None:
    plain, loss = Kind(False, False, False), Kind(True, False, False)
    methods = {"hcp": Method("", [], "hcp", loss), "mine": Method("", [], None, plain), "sm": Method("", [], "softmax_fs", plain)}
    assert undefended_method(methods) == "sm"
    assert undefended_method({name: methods[name] for name in ("hcp", "mine")}) == "mine"
    assert undefended_method({"hcp": methods["hcp"]}) is None


def test_summary_has_five_numbers_of_a_method(folders: Path) -> None:
    rows = [("clean", 0.0, 75.0), ("fgsm", EPS, 70.0), ("pgd", EPS, 50.126), ("pgd", 0.2, 1.0), ("cw", 1.0, 0.0)]
    rows += [("adaptive_pgd", EPS, 40.0), ("noise_sample", 5.0, 0.0)]
    cells = pd.DataFrame(rows, columns=["attack", "eps", "accuracy"])
    cells = cells.assign(dataset="digits", method="hcp", seed=0, images=4, chance=50.0, mse=0.25)
    methods = {"hcp": Method("HCP", [], None, Kind(True, True, False))}
    frame = verdict_frame(cells, verdict_cells(folders), DATASETS, methods)
    five = {"clean": 75.0, "paper": 50.13, "autoattack": 25.0, "adaptive": 50.0, "robust": 25.0}
    assert summary(frame) == {"digits": {"hcp": five}}
    assert set(frame["group"]) == {"Loss on features + adversarial training"}
    assert frame.set_index("attack").loc["noise", "measured"] == 0.25


def test_lines_come_by_status_and_then_by_what_is_left_with_their_flags() -> None:
    methods = [
        SOFTMAX,
        method("a", clean=90, pgd=50, robust=30),
        method("b", clean=90, pgd=50, robust=40),
        method("c", clean=90, pgd=50, robust=1),
    ]
    table = status_frame(pd.concat(methods), MASKING, "softmax_fs")
    assert table["method"].tolist() == ["b", "a", "c", "softmax_fs"]
    assert table["status"].tolist() == [HOLDS, MASKED, LOOKED, FALLS]
    assert table["flags"].tolist() == [0, 1, 0, 0]
    assert table["note"][1] == "at most 33 % of clean; zero gradient"
    assert table["robust"].tolist() == [40, 30, 1, 0]


def signs(*rows: tuple[str, bool, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["check", "passed", "near"])


@pytest.mark.parametrize(
    ("found", "status", "note"),
    [
        (signs(("flat gradient", True, False)), HOLDS, "keeps 50 % of clean"),
        (signs(("flat gradient", True, True)), HOLDS, "keeps 50 % of clean; near its threshold: flat gradient"),
        (signs(("unbounded", False, True)), MASKED, "at most 50 % of clean; unbounded (near its threshold)"),
        (
            signs(("unbounded", False, False), ("black box", False, True), ("flat gradient", True, True)),
            MASKED,
            "at most 50 % of clean; unbounded, black box (near its threshold); near its threshold: flat gradient",
        ),
        (signs(("unbounded", True, False), ("unbounded", False, False)), MASKED, "at most 50 % of clean; unbounded"),  # one seed
    ],
)
def test_a_model_with_a_flag_never_holds_and_a_check_near_its_threshold_is_named(
    found: pd.DataFrame, status: str, note: str
) -> None:
    rows = method("at", clean=80, fgsm=50, pgd=45, autoattack=41, robust=40)
    assert status_of(rows, SOFTMAX, found) == (status, note)
    fallen = method("at", clean=80, fgsm=50, pgd=45, autoattack=1, robust=0)
    assert status_of(fallen, SOFTMAX, found).name == LOOKED


def test_a_second_version_of_autoattack_is_told_of_the_models_that_it_attacked(folders: Path) -> None:
    names = [*PARTS, "standard/apgd_ce", "standard/square"]
    more = pd.concat([VERDICT, outcomes("autoattack/standard/apgd_ce", [1], images=(1,))])
    more.to_parquet(folders / "verdict/digits/hcp/1/outcomes.parquet", index=False)
    parts = load_parts(folders / "verdict", datasets=["digits"], methods=["hcp"], seeds=[0, 1], names=names)
    assert parts.loc[parts["seed"] == 0, "attack"].str.count("/").max() == 1
    second = parts[parts["attack"].str.startswith("autoattack/standard")]
    assert second[["seed", "attack", "broken", "left"]].to_numpy().tolist() == [
        [1, "autoattack/standard/apgd_ce", 0.0, 25.0],
        [1, "autoattack/standard/square", 0.0, 0.0],
    ]
    assert second_versions(parts) == {("digits", "hcp"): "standard"}
    table = status_frame(pd.concat([method("a", clean=90, pgd=50, robust=30)]), MASKING, None, {("d", "a"): "standard"})
    assert table["confirmed"].tolist() == ["standard"]
