"""What both papers claim, in one line each, against what a run measured at the eps of its verdict, and what AutoAttack leaves."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.coverage import figures
from pipeline.reporting.findings import FAILS, HOLDS, MISSING, Value, cell, combined, order
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import ADAPTIVE, LINF
from pipeline.reporting.pcl.findings import LAYERS, adaptive_verdict, published_drop
from pipeline.reporting.pcl.tables import PCL_FAMILY, WHITE_BOX
from pipeline.reporting.published import pcl_published
from pipeline.reporting.verdict.status import GROUPS

FEATURES = ("center", "pcl", "pcl_deep", "hcp", "hcp_fs")  # published keys of the losses on features without an adversary
BLACK_BOX = "from vgg "  # before the attacks of pcl table 3 that are made on another network, and its clean accuracy


class Place(NamedTuple):
    """A row of verdict.csv by published key; of pcl table 3 where the attack begins with BLACK_BOX."""

    key: str
    attack: str


class Claim(NamedTuple):
    """Of each pair the first is above the second less margin. tables: (paper, number) where the paper's own figures can be asked;
    source: where it says so otherwise; informed: the first is under an attack that knows more."""

    text: str
    pairs: list[tuple[Place, Place]]
    tables: tuple[tuple[str, int], ...] = ()
    source: str = ""
    margin: float = 0.0
    informed: bool = False


class Answer(NamedTuple):
    """source: where the paper says so, and in how many of its own comparisons; left: what AutoAttack leaves of each method that the
    claim is about."""

    claim: str
    source: str
    verdict: str
    measured: str
    left: str


def claims(published: pd.DataFrame) -> list[Claim]:
    adaptive, black_box = published_drop(pcl_published(published, 4)), most_lost(pcl_published(published, 3))
    return [
        Claim(
            "CL, PCL and HCP help under FGSM", under(["fgsm"], [(key, "softmax_fs") for key in FEATURES]), (("hcp", 2), ("pcl", 3))
        ),
        Claim("HCP > CL > PCL > SM", under(["bim"], pairwise(("hcp", "center", "pcl", "softmax_fs"))), (("hcp", 2),)),
        Claim(
            "HCP needs no softmax start: it loses at most a point",
            under(["clean", "bim"], [("hcp_fs", "hcp")]),
            (("hcp", 1), ("hcp", 2)),
            margin=1.0,
        ),
        Claim("HCP + AT > AT", under(["clean", "bim"], [("hcp_at", "at")]), (("hcp", 4),)),
        Claim("PCL + AT > Madry", under(["pgd"], [("pcl_at_pgd", "madry")]), (("pcl", 5), ("pcl", 6))),
        Claim("The deeper the layer with the PCL loss, the better", under(["pgd"], pairwise(LAYERS)), (("pcl", 11),)),
        Claim(
            f"An attack that knows the prototypes takes at most {adaptive:.1f} points more",
            [(Place(key, ADAPTIVE + attack), Place(key, attack)) for key in PCL_FAMILY for attack in LINF],
            source="PCL table 4",
            margin=adaptive,
            informed=True,
        ),
        Claim(
            f"Images made on another network cost PCL at most {black_box:.1f} points",
            [(Place(key, BLACK_BOX + attack), Place(key, BLACK_BOX + "clean")) for key in PCL_FAMILY for attack in LINF],
            source="PCL table 3",
            margin=black_box,
        ),
    ]


def under(attacks: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[tuple[Place, Place]]:
    pairs = list(pairs)
    return [(Place(above, attack), Place(below, attack)) for attack in attacks for above, below in pairs]


def most_lost(table: pd.DataFrame) -> float:
    """table: pcl table 3 as published. The most that l-inf images from VGG-19 cost a PCL model, over all data sets."""
    rows = table[table["key"].isin(PCL_FAMILY)]
    shown = rows[(rows["setting"] == BLACK_BOX.strip()) & rows["attack"].isin(LINF)]
    both = shown.merge(rows[rows["attack"] == "clean"], on=["dataset", "key"])
    return float((both["published_y"] - both["published_x"]).max())


def source_text(claim: Claim, printed: pd.DataFrame) -> str:
    """printed: `figures`. Where the paper says so, and in how many of the comparisons that its tables allow it is so."""
    if not claim.tables:
        return claim.source
    right, names = [], []
    for paper, number in claim.tables:
        rows = printed[(printed["paper"] == paper) & (printed["table"] == number) & (printed["setting"] == WHITE_BOX)]
        names.append(f"{paper.upper()} table {number}")
        for pair in claim.pairs:
            above, below = (rows[(rows["key"] == place.key) & (rows["attack"] == place.attack)] for place in pair)
            both = above.merge(below, on=["dataset", "eps"])
            right += list(both["published_x"] > both["published_y"] - claim.margin)
    return f"{', '.join(names)}: {sum(right)} of {len(right)}"


def rows_of(dataset: str, verdict: pd.DataFrame, pcl: pd.DataFrame, keys: Mapping[str, str]) -> pd.DataFrame:
    """What the claims are checked on. verdict, pcl: verdict.csv and pcl.csv; keys: published ones by method."""
    shown = pcl[(pcl["table"] == 3) & pcl["measured"].notna() & pcl["attack"].isin(("clean", *LINF))]
    shown = shown[(shown["setting"] == BLACK_BOX.strip()) | (shown["attack"] == "clean")]
    rows = pd.concat([verdict, shown.assign(attack=BLACK_BOX + shown["attack"])])
    rows = rows[rows["dataset"] == dataset]
    return rows.assign(key=[keys.get(method, method) for method in rows["method"]])


def answer(claim: Claim, rows: pd.DataFrame, printed: pd.DataFrame, source: str) -> Answer:
    """rows: `rows_of` one data set; printed: `figures`; source: the network of BLACK_BOX here."""
    values = {place: cell(rows[rows["key"] == place.key], place.attack) for pair in claim.pairs for place in pair}
    judge = adaptive_verdict if claim.informed else order
    verdicts = {pair: judge(values[pair[0]], values[pair[1]], claim.margin) for pair in claim.pairs}
    known = {pair: verdict for pair, verdict in verdicts.items() if verdict != MISSING}
    count = f", {[*known.values()].count(HOLDS)} of {len(known)}" if len(known) > 1 else ""
    labels = dict(zip(rows["key"], rows["label"], strict=True))
    by_attack: dict[str, list[str]] = {}
    for place in dict.fromkeys(place for pair in known for place in pair):
        by_attack.setdefault(attack_name(place.attack, source), []).append(value_text(labels[place.key], values[place]))
    measured = "<br>".join(f"{attack}: {', '.join(found)}" for attack, found in by_attack.items())
    keys = dict.fromkeys(place.key for pair in known for place in pair)
    verdict = combined([*known.values()]) + count
    return Answer(claim.text, source_text(claim, printed), verdict, measured, left_text(keys, rows, labels))


def attack_name(attack: str, source: str) -> str:
    name = attack.removeprefix(BLACK_BOX)
    text = name if name == "clean" else attack_text(name)
    return text if name in (attack, "clean") else f"{text} from {source}"


def value_text(label: str, value: Value | None) -> str:
    return f"{label} {value.measured:.1f}" if value else f"{label} -"


def left_text(keys: Iterable[str], rows: pd.DataFrame, labels: Mapping[str, str]) -> str:
    return ", ".join(value_text(labels[key], cell(rows[rows["key"] == key], "autoattack")) for key in keys)


def warned(status: pd.DataFrame) -> str:
    """Which models have checks that warn, and how many."""
    return ", ".join(f"{row['label']}: {row['flags']}" for _, row in status.iterrows() if row["flags"])


def unmasked(status: pd.DataFrame, rows: pd.DataFrame) -> Answer:
    """Whether a check for masked gradients warns of a loss on features without an adversary. status: one data set's rows of
    verdict_status.csv."""
    own = status[status["group"] == GROUPS[1]]
    text, besides = (warned(status[status["group"] == group]) for group in GROUPS[1:3])
    verdict = MISSING if own.empty else FAILS if text else HOLDS
    names = dict(zip(rows["method"], rows["key"], strict=True))
    left = left_text([names[method] for method in own["method"]], rows, dict(zip(rows["key"], rows["label"], strict=True)))
    measured = f"checks that warn: {text}" if text else f"no check warns of {len(own)} models"
    measured += f"<br>with adversarial training: {besides}" if besides else ""
    return Answer("A loss on features alone masks no gradients", "PCL section 6.6", verdict, measured, left)


def answers(
    dataset: str,
    published: pd.DataFrame,
    *,
    verdict: pd.DataFrame,
    status: pd.DataFrame,
    pcl: pd.DataFrame,
    keys: Mapping[str, str],
    source: str,
) -> list[Answer]:
    """Claims that concern no method of the run are left out. verdict, status, pcl: verdict.csv, verdict_status.csv, pcl.csv; keys:
    published ones by method; source: the network that makes images for the others."""
    rows, printed = rows_of(dataset, verdict, pcl, keys), figures(published)
    found = [answer(claim, rows, printed, source) for claim in claims(published)]
    found.append(unmasked(status[status["dataset"] == dataset], rows))
    return [one for one in found if one.verdict != MISSING]
