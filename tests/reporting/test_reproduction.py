"""The claims of the papers on made tables: verdicts worked by hand, margins against published.csv itself."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT

from pipeline.params.described import describe
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params
from pipeline.reporting.published import PATH, load_published, pcl_published
from pipeline.reporting.reproduction.claims import Answer, answers, most_lost
from pipeline.reporting.reproduction.coverage import Measured
from pipeline.reporting.reproduction.markdown import one_change, reproduction_markdown
from pipeline.reporting.run import run_from
from pipeline.runtime.sums import write_sums

PUBLISHED = load_published()
EMPTY = pd.DataFrame(columns=["dataset", "group", "method", "label", "flags"])

FROM_SCRATCH = "On ten classes HCP needs no softmax pretraining: from scratch it loses at most one point"


def row(method: str, attack: str, measured: float, **more: Any) -> dict[str, Any]:
    """With an interval of one point to either side."""
    name = {"dataset": "mnist", "method": method, "label": method.upper(), "attack": attack, "eps": 0.3}
    return {
        **name,
        "measured": measured,
        "ci95_low": measured - 1,
        "ci95_high": measured + 1,
        "seeds": 1,
        "seed_std": None,
        "chance": 10.0,
        **more,
    }


def table_3(*rows: dict[str, Any]) -> pd.DataFrame:
    """pcl.csv: rows of clean images are white-box, others made on VGG-19."""
    table = pd.DataFrame(rows or [row("softmax_fs", "pgd", 1.0)]).assign(table=3, published=float("nan"))
    return table.assign(setting=["white-box" if attack == "clean" else "from vgg" for attack in table["attack"]])


def asked(
    rows: list[dict[str, Any]],
    status: pd.DataFrame = EMPTY,
    pcl: pd.DataFrame | None = None,
    by_eps: list[dict[str, Any]] | None = None,
    hcp: list[dict[str, Any]] | None = None,
) -> dict[str, Answer]:
    """by_eps: of curves.csv."""
    tables = {"verdict": pd.DataFrame(rows), "verdict_status": status, "pcl": table_3() if pcl is None else pcl}
    tables["curves"] = pd.DataFrame(by_eps or [row("hcp", "pgd", 1.0)])
    tables["hcp"] = pd.DataFrame(hcp or [row("hcp", "bim", 1.0)]).assign(table=2, published=40.0 if hcp else None)
    return {answer.claim: answer for answer in answers("mnist", PUBLISHED, tables, {"our_hcp": "hcp"}, "a net")}


def test_a_chain_holds_where_every_pair_does() -> None:
    names = ("our_hcp", "center", "pcl", "softmax_fs")
    falling = [row(name, "bim", value) for name, value in zip(names, (40.0, 30.0, 20.0, 10.0), strict=True)]
    left = [row("our_hcp", "autoattack", 0.5), row("center", "autoattack", 0.0)]
    found = asked(left, by_eps=falling)["HCP > CL > PCL > SM"]
    assert (found.verdict, found.counts) == ("holds", "3 of 3 hold; 3 in the claimed direction")
    assert found.source == "HCP table 2: 8 of 9"  # on CIFAR-100 CL has 27.68 and PCL 29.08
    assert found.measured == "BIM, eps 0.3: OUR_HCP 40.0, CENTER 30.0, PCL 20.0, SOFTMAX_FS 10.0"
    assert found.left == "OUR_HCP 0.5, CENTER 0.0"
    counts = "2 of 3 hold; 3 in the claimed direction", "2 of 3 hold, 1 the other way round; 2 in the claimed direction"
    for pcl, verdict, count in ((29.0, "not told apart", counts[0]), (33.0, "does not hold", counts[1])):
        found = asked(left, by_eps=[*falling[:2], row("pcl", "bim", pcl), falling[3]])["HCP > CL > PCL > SM"]
        assert (found.verdict, found.counts) == (verdict, count)


def test_the_chain_is_also_asked_at_the_eps_of_the_paper_where_it_has_the_data_set() -> None:
    names = ("our_hcp", "center", "pcl", "softmax_fs")
    rows = [row(name, "bim", value, eps=0.03) for name, value in zip(names, (0.5, 4.0, 0.0, 0.0), strict=True)]
    found = asked([row("our_hcp", "autoattack", 0.0)], hcp=rows)["HCP > CL > PCL > SM, at the eps of HCP table 2"]
    assert (found.verdict, found.source) == ("does not hold", "HCP table 2: 8 of 9")
    assert found.measured == "BIM, eps 0.03: OUR_HCP 0.5, CENTER 4.0, PCL 0.0, SOFTMAX_FS 0.0"


def test_losses_on_features_are_compared_where_half_of_the_undefended_model_s_images_are_left() -> None:
    """BIM leaves 90, 60, 30 and 2 % of them at eps 0.1, 0.15, 0.2 and 0.3."""
    left = {0.1: 90.0, 0.15: 60.0, 0.2: 30.0, 0.3: 2.0}
    rows = [row("softmax_fs", "bim", value, eps=eps) for eps, value in left.items()]
    rows += [
        row("softmax_fs", "fgsm", 62.0, eps=0.15),
        row("our_hcp", "fgsm", 70.0, eps=0.15),
        row("our_hcp", "fgsm", 1.0, eps=0.2),
    ]
    rows += [row("center", "fgsm", 62.5, eps=0.15)]
    found = asked([row("our_hcp", "fgsm", 3.0)], by_eps=rows)["CL, PCL and HCP help under FGSM"]
    assert found.measured == "FGSM, eps 0.15: CENTER 62.5, SOFTMAX_FS 62.0, OUR_HCP 70.0"
    assert (found.verdict, found.counts) == ("not told apart", "1 of 2 hold; 2 in the claimed direction")


def test_what_no_method_of_the_run_answers_is_left_out() -> None:
    assert asked([row("hcp", "bim", 40.0)], by_eps=[row("hcp", "bim", 40.0)]) == {}
    assert [*asked([row("hcp_at", "bim", 40.0), row("at", "bim", 30.0)])] == ["HCP + AT > AT"]


@pytest.mark.parametrize(("scratch", "verdict"), [(38.5, "not told apart"), (41.5, "holds"), (36.0, "does not hold")])
def test_a_start_from_scratch_may_cost_a_point(scratch: float, verdict: str) -> None:
    by_eps = [row("hcp_fs", "bim", scratch), row("hcp", "bim", 40.0), row("softmax_fs", "bim", 40.0)]
    found = asked([row("hcp", "fgsm", 1.0)], by_eps=by_eps)[FROM_SCRATCH]  # 40 - 1, either interval a point
    assert (found.verdict, found.source) == (verdict, "HCP table 1, HCP table 2: 4 of 4")


def test_of_a_hundred_classes_the_paper_does_not_claim_that_no_pretraining_is_needed() -> None:
    """And its table 2 has 15.4 under BIM from scratch, against 40.36."""
    rows = [row(method, "clean", 40.0, dataset="cifar100") for method in ("hcp_fs", "hcp", "hcp_at", "at")]
    tables = {name: pd.DataFrame(rows) for name in ("verdict", "curves")} | {"verdict_status": EMPTY}
    tables["pcl"] = table_3().assign(dataset="cifar100")
    tables["hcp"] = pd.DataFrame(rows).assign(table=1, published=None)
    claims = [answer.claim for answer in answers("cifar100", PUBLISHED, tables, {}, "a net")]
    assert "HCP + AT > AT" in claims
    assert FROM_SCRATCH not in claims


def test_the_margins_are_what_the_paper_s_own_tables_lose() -> None:
    with PATH.open(encoding="utf-8", newline="") as file:
        printed = [own for own in csv.DictReader(file) if own["paper"] == "pcl" and own["table"] == "3" and "pcl" in own["method"]]
    value = {(r["dataset"], r["method"], r["attack"], r["setting"] == "white-box"): float(r["value"]) for r in printed}
    lost = [
        value[dataset, method, "clean", True] - of
        for (dataset, method, attack, white), of in value.items()
        if not white and attack in ("fgsm", "bim", "mim", "pgd")
    ]
    assert most_lost(pcl_published(PUBLISHED, 3)) == pytest.approx(max(lost))
    claim = f"Transfer attacks from another network cost PCL at most {max(lost):.1f} points"
    for lower, verdict in ((-2.5, "holds"), (2.5, "does not hold")):
        shown = 99.0 - max(lost) - lower
        found = asked([row("pcl_deep", "fgsm", 1.0)], pcl=table_3(row("pcl_deep", "clean", 99.0), row("pcl_deep", "pgd", shown)))
        assert found[claim].verdict == verdict
        assert found[claim].measured == f"PGD from a net: PCL_DEEP {shown:.1f}<br>clean: PCL_DEEP 99.0"


@pytest.mark.parametrize(
    ("adaptive", "verdict"),
    [(40.5, "holds"), (38.5, "not told apart"), (30.0, "does not hold"), (44.0, "attack too weak to tell")],
)
def test_what_knowing_the_prototypes_takes(adaptive: float, verdict: str) -> None:
    rows = [row("pcl_deep", "pgd", value, eps=0.03) for value in (40.0, adaptive)]  # the verdict is at another eps
    table_4 = pd.DataFrame(rows).assign(table=4, setting=["white-box", "adaptive"], published=40.0)
    found = asked([row("pcl_deep", "pgd", 1.0)], pcl=table_4)
    claim = found["An attack that knows the prototypes takes at most 2.0 points more"]
    assert claim.verdict == verdict
    assert claim.measured.startswith(f"PGD, adaptive, eps 0.03: PCL_DEEP {adaptive}<br>PGD, eps 0.03: PCL_DEEP 40.0")
    at_chance = table_4.assign(measured=[10.0, 4.0])  # there is nothing more to take
    assert not [name for name in asked([row("pcl_deep", "pgd", 1.0)], pcl=at_chance) if "knows the prototypes" in name]


def test_adversarial_training_is_compared_at_the_eps_that_the_paper_prints_for_the_data_set() -> None:
    """PCL table 6 has MNIST at 0.1 and 0.15, where Madry is above; the verdict is at 0.3."""
    both = [row("pcl_at_pgd", "pgd", 80.0), row("madry", "pgd", 50.0)]
    printed = [row(name, "pgd", value, eps=eps) for eps in (0.1, 0.15) for name, value in (("pcl_at_pgd", 90.0), ("madry", 95.0))]
    pcl = pd.DataFrame(printed).assign(table=6, setting="white-box", published=90.0)
    found = asked(both, pcl=pcl)["PCL + AT > Madry"]
    assert (found.verdict, found.counts) == ("does not hold", "0 of 2 hold, 2 the other way round; 0 in the claimed direction")
    assert found.measured == "PGD, eps 0.1: PCL_AT_PGD 90.0, MADRY 95.0<br>PGD, eps 0.15: PCL_AT_PGD 90.0, MADRY 95.0"
    assert found.source == "PCL table 5, PCL table 6: 2 of 4 (mnist 0 of 2)"
    assert asked(both)["PCL + AT > Madry"].verdict == "holds"  # on a set that no table has


def test_one_warning_is_a_masked_gradient() -> None:
    claim, rows = "A PCL loss on features alone masks no gradients", [row("pcl", "autoattack", 3.0), row("hcp", "autoattack", 2.0)]
    groups = ["Loss on features", "Loss on features"]
    status = pd.DataFrame({"dataset": "mnist", "group": groups, "method": ["pcl", "hcp"], "label": ["PCL", "HCP"], "flags": [0, 2]})
    found = asked(rows, status)[claim]  # which is no claim of the HCP paper
    assert (found.verdict, found.measured, found.left) == (
        "holds",
        "no check warns for any of 1 models<br>other losses on features, checks that warn: HCP: 2",
        "PCL 3.0",
    )
    found = asked(rows, status.assign(flags=[1, 0]))[claim]
    assert (found.verdict, found.measured) == ("does not hold", "checks that warn: PCL: 1")
    besides = status.assign(group=["Loss on features", "Loss on features + adversarial training"])
    text = "no check warns for any of 1 models<br>with adversarial training, checks that warn: HCP: 2"
    assert asked(rows, besides)[claim].measured == text


def test_a_run_is_held_against_the_published_tables(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mnist.json").write_text(json.dumps({"images": {"train": 6030, "test": 300}}))
    cells = [("clean", 0.0, 98.71, 97.71), ("fgsm", 0.3, 4.9, 12.9), ("pgd", 0.3, 0.0, 4.0)]  # as the paper has it, and measured
    more = {"table": 3, "key": "softmax_fs", "metric": "accuracy"}
    pcl = [
        row("softmax_fs", attack, measured, setting="white-box", eps=eps, published=p, **more) for attack, eps, p, measured in cells
    ]
    pcl += [row("softmax_fs", "cw", 97.0, setting="from vgg", eps=10.0, published=20.9, **more)]
    verdict = [row("softmax_fs", "clean", 98.0, images=200), row("softmax_fs", "fgsm", 11.0, images=200)]
    for name, rows in {"pcl": pcl, "verdict": verdict}.items():
        pd.DataFrame(rows).to_csv(tmp_path / f"tables/{name}.csv", index=False)
    noise = {
        "softmax_fs": (0.02, 0.04),
        "hcp": (0.01, 0.05),
        "at": (0.01, 0.3),
    }  # until the image, until its batch is misclassified
    hcp = [
        row(method, f"noise_{stop}", value, **{**more, "metric": "mse", "key": method}, published=None, stop=stop)
        for method, both in noise.items()
        for stop, value in zip(("sample", "batch"), both, strict=True)
    ]
    pd.DataFrame(hcp).to_csv(tmp_path / "tables/hcp.csv", index=False)
    (tmp_path / "benchmarks/net").mkdir(parents=True)
    steps = {"dataset": "mnist", "method": "hcp", "c": 10.0, "images": 50, "accuracy_run": 4.0, "accuracy_paper": 6.0}
    steps |= {"only_run": 2, "only_paper": 1, "l2_run": 1.5, "l2_paper": 1.0}
    pd.DataFrame([steps]).to_csv(tmp_path / "benchmarks/net/cw_steps.csv", index=False)
    pd.DataFrame(columns=["dataset", "key", "metric", "published", "measured", "low", "high"]).to_csv(
        tmp_path / "tables/cost.csv", index=False
    )
    EMPTY.to_csv(tmp_path / "tables/verdict_status.csv", index=False)
    pd.DataFrame(columns=[*pcl[0]]).to_csv(tmp_path / "tables/curves.csv", index=False)
    write_sums(tmp_path / "tables")
    params = load_params(ROOT / "profiles/pcl/params.yaml", LOOKUPS)
    params.run.datasets[:] = ["mnist"]
    texts = {"mnist": "conv6"}, {"mnist": "vgg19 of width 16"}, {"mnist": []}
    run = Measured("short", tmp_path, run_from(describe(params)), *texts, {("pcl", "mnist")})
    rest = {"hcp": {"cifar10": (12.84, 4.5, 1, 25)}, "pcl": {"cifar10": (19.42, 3.5, 1, 45), "mnist": (4.26, 1.4, 1, 45)}}
    digits = run_from(describe(load_params(ROOT / "params.yaml", LOOKUPS)))
    runs = [run, run._replace(name="never", metrics=tmp_path / "none", run=digits)]
    text = reproduction_markdown(PUBLISHED, runs, rest, tmp_path / "benchmarks")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    epochs = "50 pretrain, 300 train (PCL 50 pretrain, 300 train)"
    judged = "200 images, eps 0.3, AutoAttack standard"
    assert ["short", "mnist", "6,030", epochs, "conv6", "vgg19 of width 16", "0", "300", judged] in lines
    assert ["pcl", "3", "mnist", "SM (FS)", "short", "2 of 4", "-1.0", "+8.0", "+4.0", "+76.1"] in lines
    assert ["hcp", "cifar10", "1, 2, 3, 4", "41", "12.8"] in lines  # 6 + 18 + 5 + 12 figures
    tables = "3, 4, 5, 8, 9, 11, 12, 13"
    assert ["pcl", "cifar10", tables, "238", "19.4"] in lines  # 44 + 15 + 96 (8 are of Yu et al.) + 8 + 25 + 24 + 10 + 16
    assert ["pcl", "mnist", "3 in part, 6", str(40 + 91), "4.3"] in lines  # of table 3 it has four; 8 of table 6 are of Yu et al.
    assert ["hcp", "svhn", "1, 2, 3, 4", "41", "-"] in lines  # which the profile might leave out
    assert ["mnist", "SOFTMAX_FS", "0.0200, rank 1", "0.0400, rank 3"] in lines
    assert ["mnist", "HCP", "0.0100, rank 2", "0.0500, rank 2"] in lines
    assert ["mnist", "AT", "0.0100, rank 2", "0.3000, rank 1"] in lines
    assert ["mnist", "hcp", "10.0", "50", "4.0", "6.0", "2", "1"] in lines
    assert "never" not in text
    assert "Steps of C&W" not in reproduction_markdown(PUBLISHED, runs, rest, tmp_path)  # where it was not measured
    assert (
        "largest differences: white-box +8.0 (PCL table 3, mnist, FGSM, eps 0.3); on images from another network +76.1 (PCL" in text
    )


def test_what_one_change_does_is_bold_where_the_intervals_lie_apart() -> None:
    """Intervals of a point to either side: 10 and 12.5 differ by more than the root of two, 50 and 51 do not."""
    own = [row("hcp", "fgsm", 30.0), row("hcp", "pgd", 10.0), row("hcp", "autoattack", 50.0), row("hcp", "robust", 0.0)]
    other = [row("pcl", "pgd", 40.0), row("pcl", "fgsm", 12.5), row("pcl", "autoattack", 51.0), row("pcl", "clean", 9.0)]
    assert one_change((pd.DataFrame(own), pd.DataFrame(other))) == {
        "clean": "- → 9.0",
        "paper's attack": "**10.0 → 12.5**",  # the strongest, which are two attacks here
        "adaptive": "- → -",
        "AutoAttack": "50.0 → 51.0",
        "robust": "0.0 → -",
    }
