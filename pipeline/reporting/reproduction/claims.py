"""What both papers claim, in one line each, against what a run measured, and what AutoAttack leaves."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.findings import FAILS, HOLDS, MISSING, WEAK, Value, combined, order, value_of
from pipeline.reporting.markdown import attack_text, name_attack
from pipeline.reporting.outcomes import ADAPTIVE, LINF, is_close
from pipeline.reporting.pcl.findings import LAYERS, adaptive_verdict, published_drop
from pipeline.reporting.pcl.tables import ADAPTIVE_SETTING, PCL_FAMILY, WHITE_BOX
from pipeline.reporting.published import pcl_published
from pipeline.reporting.reproduction.coverage import figures
from pipeline.reporting.verdict.status import FEATURES as FEATURES_GROUP
from pipeline.reporting.verdict.status import FEATURES_ADVERSARIAL

TABLES = ("verdict", "verdict_status", "hcp", "pcl", "curves")  # files that the claims are checked on
FEATURES = ("center", "pcl", "pcl_deep", "hcp", "hcp_fs")  # published keys of the losses on features without an adversary
FLAGGED = " (flagged)"  # after the label of a model of which a check for masked gradients warns
VERDICT = "verdict"  # where a row is from: verdict.csv
WEAKER = "weaker"  # curves.csv, at the eps at which BIM leaves nearest to half of the undefended model's images right
PRINTED = "printed"  # hcp table 2 at its eps, on a data set that it has
BLACK_BOX = "from vgg"  # pcl table 3: images made on another network, and clean accuracy on the images of that table
TABLE_4 = "table 4"  # pcl table 4, at its eps
COMPARED = "compared"  # pcl tables 5 and 6 at their eps on a data set that they have, else verdict.csv


class Place(NamedTuple):
    """Rows of `rows_of`, by published key."""

    key: str
    where: str
    attack: str


class Claim(NamedTuple):
    """Of each pair the first is above the second less margin. tables: (paper, number) where the paper's own figures can be asked;
    source: where it says so otherwise; informed: the first is under an attack that knows more; without: data sets of which the
    paper does not say so."""

    text: str
    pairs: list[tuple[Place, Place]]
    tables: tuple[tuple[str, int], ...] = ()
    source: str = ""
    margin: float = 0.0
    informed: bool = False
    without: tuple[str, ...] = ()


class Answer(NamedTuple):
    """source: where the paper says so, and in how many of its own comparisons; counts: how many of those here hold, where there are
    several; left: what AutoAttack leaves of each method that the claim is about."""

    claim: str
    source: str
    verdict: str
    counts: str
    measured: str
    left: str


def claims(published: pd.DataFrame) -> list[Claim]:
    adaptive, black_box = published_drop(pcl_published(published, 4)), most_lost(pcl_published(published, 3))
    return [
        Claim(
            "CL, PCL and HCP help under FGSM",
            under(WEAKER, ["fgsm"], [(key, "softmax_fs") for key in FEATURES]),
            (("hcp", 2), ("pcl", 3)),
        ),
        Claim("HCP > CL > PCL > SM", under(WEAKER, ["bim"], pairwise(("hcp", "center", "pcl", "softmax_fs"))), (("hcp", 2),)),
        Claim(
            "HCP > CL > PCL > SM, at the eps of HCP table 2",
            under(PRINTED, ["bim"], pairwise(("hcp", "center", "pcl", "softmax_fs"))),
            (("hcp", 2),),
        ),
        Claim(
            "On ten classes HCP needs no softmax pretraining: from scratch it loses at most one point",
            [*under(VERDICT, ["clean"], [("hcp_fs", "hcp")]), *under(WEAKER, ["bim"], [("hcp_fs", "hcp")])],
            (("hcp", 1), ("hcp", 2)),
            margin=1.0,
            without=("cifar100",),
        ),
        Claim("HCP + AT > AT", under(VERDICT, ["clean", "bim"], [("hcp_at", "at")]), (("hcp", 4),)),
        Claim("PCL + AT > Madry", under(COMPARED, ["pgd"], [("pcl_at_pgd", "madry")]), (("pcl", 5), ("pcl", 6))),
        Claim(
            "The deeper the layer with the PCL loss, the better",
            under(WEAKER, ["pgd"], [*pairwise(LAYERS), (LAYERS[0], LAYERS[-1])]),
            (("pcl", 11),),
        ),
        Claim(
            f"An attack that knows the prototypes takes at most {adaptive:.1f} points more",
            [(Place(key, TABLE_4, ADAPTIVE + attack), Place(key, TABLE_4, attack)) for key in PCL_FAMILY for attack in LINF],
            source="PCL table 4",
            margin=adaptive,
            informed=True,
        ),
        Claim(
            f"Transfer attacks from another network cost PCL at most {black_box:.1f} points",
            [(Place(key, BLACK_BOX, attack), Place(key, BLACK_BOX, "clean")) for key in PCL_FAMILY for attack in LINF],
            source="PCL table 3",
            margin=black_box,
        ),
    ]


def under(where: str, attacks: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[tuple[Place, Place]]:
    pairs = list(pairs)
    return [(Place(above, where, attack), Place(below, where, attack)) for attack in attacks for above, below in pairs]


def most_lost(table: pd.DataFrame) -> float:
    """table: pcl table 3 as published. The most that l-inf images from VGG-19 cost a PCL model, over all data sets."""
    rows = table[table["key"].isin(PCL_FAMILY)]
    shown = rows[(rows["setting"] == BLACK_BOX) & rows["attack"].isin(LINF)]
    both = shown.merge(rows[rows["attack"] == "clean"], on=["dataset", "key"])
    return float((both["published_y"] - both["published_x"]).max())


def source_text(claim: Claim, printed: pd.DataFrame, dataset: str) -> str:
    """printed: `figures`. Where the paper says so, and in how many of the comparisons that its tables allow it is so: in all, and
    on this data set where it is one of them."""
    if not claim.tables:
        return claim.source
    names, found = [], []
    printed = printed[~printed["dataset"].isin(claim.without)]
    for paper, number in claim.tables:
        rows = printed[(printed["paper"] == paper) & (printed["table"] == number) & (printed["setting"] == WHITE_BOX)]
        names.append(f"{paper.upper()} table {number}")
        for pair in claim.pairs:
            above, below = (rows[(rows["key"] == place.key) & (rows["attack"] == place.attack)] for place in pair)
            both = above.merge(below, on=["dataset", "eps"])
            found.append(both.assign(right=both["published_x"] > both["published_y"] - claim.margin))
    all_of_them = pd.concat(found)
    right, here = all_of_them["right"], all_of_them.loc[all_of_them["dataset"] == dataset, "right"]
    own = f" ({dataset} {here.sum()} of {len(here)})" if 0 < len(here) < len(right) else ""
    return f"{', '.join(names)}: {right.sum()} of {len(right)}{own}"


def rows_of(dataset: str, tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> pd.DataFrame:
    """What the claims are checked on, with columns `key` and `where`. tables: as in `answers`; keys: published ones by method."""
    own = {name: table[table["dataset"] == dataset] for name, table in tables.items()}
    own = {name: table.assign(key=[keys.get(method, method) for method in table["method"]]) for name, table in own.items()}
    verdict, pcl = own["verdict"], own["pcl"][own["pcl"]["measured"].notna() & own["pcl"]["attack"].isin(("clean", *LINF))]
    third, fourth = pcl[pcl["table"] == 3], pcl[(pcl["table"] == 4) & (pcl["attack"] != "clean")]
    shown = third[(third["setting"] == BLACK_BOX) | (third["attack"] == "clean")]
    informed = fourth["setting"].map({ADAPTIVE_SETTING: ADAPTIVE}).fillna("")
    hcp = own["hcp"]
    at_theirs = hcp[(hcp["table"] == 2) & hcp["measured"].notna() & hcp["published"].notna()]
    compared = pcl[pcl["table"].isin((5, 6)) & (pcl["setting"] == WHITE_BOX) & pcl["published"].notna()]
    parts = [
        verdict.assign(where=VERDICT),
        at_theirs.assign(where=PRINTED),
        shown.assign(where=BLACK_BOX),
        fourth.assign(where=TABLE_4, attack=informed + fourth["attack"]),
        (compared if len(compared) else verdict).assign(where=COMPARED),
        weaker_rows(own["curves"]).assign(where=WEAKER),
    ]
    return pd.concat(parts, ignore_index=True)


def weaker_rows(curves: pd.DataFrame) -> pd.DataFrame:
    """curves: curves.csv, one data set's rows, with a column `key`. Those that WEAKER says, none without an undefended model."""
    undefended = curves[(curves["key"] == "softmax_fs") & (curves["attack"] == "bim")]
    if undefended.empty:
        return undefended
    eps = float(undefended["eps"].iloc[(undefended["measured"] - 50).abs().argmin()])
    return curves[is_close(curves["eps"], eps)]


def measured_pairs(claim: Claim, rows: pd.DataFrame) -> list[tuple[pd.Series, pd.Series]]:
    """The rows of each pair that were measured: at every eps that both have, or, of different attacks, the two that there are. Left
    out where an attack that knows more has nothing more to take: both are at chance."""
    found = []
    for pair in claim.pairs:
        above, below = (
            rows[(rows["key"] == key) & (rows["where"] == where) & (rows["attack"] == attack) & rows["measured"].notna()]
            for key, where, attack in pair
        )
        if pair[0][1:] == pair[1][1:]:
            both = sorted(set(above["eps"]) & set(below["eps"]))
            above, below = (of[of["eps"].isin(both)].sort_values("eps") for of in (above, below))
        found += list(zip((row for _, row in above.iterrows()), (row for _, row in below.iterrows()), strict=False))
    chance = rows["chance"].max() if claim.informed else -1.0
    return [pair for pair in found if max(row["measured"] for row in pair) > chance]


def answer(claim: Claim, rows: pd.DataFrame, printed: pd.DataFrame, dataset: str, source: str) -> Answer:
    """rows: `rows_of` one data set; printed: `figures`; source: the network of BLACK_BOX here."""
    judge, verdicts, agreeing = adaptive_verdict if claim.informed else order, [], 0
    by_attack: dict[str, list[str]] = {}
    pairs = measured_pairs(claim, rows)
    for pair in pairs:
        above, below = map(value_of, pair)
        verdicts.append(judge(above, below, claim.margin))
        agreeing += above.measured > below.measured - claim.margin
        for row in pair:
            texts = by_attack.setdefault(attack_name(row, source), [])
            if (text := value_text(row["label"], value_of(row))) not in texts:
                texts.append(text)
    measured = "<br>".join(f"{attack}: {', '.join(found)}" for attack, found in by_attack.items())
    used = dict.fromkeys(row["key"] for pair in pairs for row in pair)
    count = count_text(verdicts, agreeing) if len(verdicts) > 1 else ""
    return Answer(claim.text, source_text(claim, printed, dataset), combined(verdicts), count, measured, left_text(used, rows))


def count_text(verdicts: Sequence[str], agreeing: int) -> str:
    """agreeing: how many differ in the claimed direction, by however little."""
    counts = {
        name: verdicts.count(verdict)
        for name, verdict in (("the other way round", FAILS), ("too weak", WEAK))
        if verdict in verdicts
    }
    others = "".join(f", {count} {name}" for name, count in counts.items())
    return f"{verdicts.count(HOLDS)} of {len(verdicts)} hold{others}; {agreeing} in the claimed direction"


def attack_name(row: pd.Series, source: str) -> str:
    if row["where"] in (WEAKER, PRINTED, TABLE_4) or (row["where"] == COMPARED and row["attack"] != "clean"):
        return name_attack(row["attack"], row["eps"])
    text = row["attack"] if row["attack"] == "clean" else attack_text(row["attack"])
    return f"{text} from {source}" if row["where"] == BLACK_BOX and text != "clean" else str(text)


def value_text(label: str, value: Value) -> str:
    return f"{label} {value.measured:.1f}"


def left_text(keys: Iterable[str], rows: pd.DataFrame) -> str:
    """What AutoAttack leaves of each method."""
    own = {row["key"]: row for _, row in rows[(rows["where"] == VERDICT) & (rows["attack"] == "autoattack")].iterrows()}
    return ", ".join(value_text(own[key]["label"], value_of(own[key])) for key in keys if key in own)


def warned(status: pd.DataFrame) -> str:
    """Which models have checks that warn, and how many."""
    return ", ".join(f"{row['label']}: {row['flags']}" for _, row in status.iterrows() if row["flags"])


def unmasked(status: pd.DataFrame, rows: pd.DataFrame) -> Answer:
    """Whether a check for masked gradients warns of a PCL loss without an adversary; beside it, those that warn of other losses on
    features. status: one data set's rows of verdict_status.csv."""
    keys = dict(zip(rows["method"], rows["key"], strict=True))
    features = status[status["group"] == FEATURES_GROUP]
    is_pcl = pd.Series([keys[method].startswith("pcl") for method in features["method"]], index=features.index, dtype=bool)
    own = features[is_pcl]
    besides = {
        "other losses on features": warned(features[~is_pcl]),
        "with adversarial training": warned(status[status["group"] == FEATURES_ADVERSARIAL]),
    }
    text = warned(own)
    verdict = MISSING if own.empty else FAILS if text else HOLDS
    measured = f"checks that warn: {text}" if text else f"no check warns for any of {len(own)} models"
    measured += "".join(f"<br>{of}, checks that warn: {found}" for of, found in besides.items() if found)
    left = left_text([keys[method] for method in own["method"]], rows)
    return Answer("A PCL loss on features alone masks no gradients", "PCL section 6.6", verdict, "", measured, left)


def answers(
    dataset: str,
    published: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    keys: Mapping[str, str],
    source: str,
) -> list[Answer]:
    """Claims that concern no method of the run are left out. tables: those of TABLES by name; keys: published ones by method;
    source: the network that makes images for the others."""
    rows, printed = rows_of(dataset, tables, keys), figures(published)
    status = tables["verdict_status"]
    status = status[status["dataset"] == dataset]
    flagged = rows["method"].isin(status.loc[status["flags"] > 0, "method"])
    rows["label"] = rows["label"].mask(flagged, rows["label"] + FLAGGED)
    found = [answer(claim, rows, printed, dataset, source) for claim in claims(published) if dataset not in claim.without]
    found.append(unmasked(status, rows))
    return [one for one in found if one.verdict != MISSING]
