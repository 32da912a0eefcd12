"""What both papers claim, in one line each, against what a run measured at the eps of its verdict, and what AutoAttack leaves."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.findings import FAILS, HOLDS, MISSING, Value, cell, combined, order
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import LINF
from pipeline.reporting.pcl.findings import LAYERS, published_drop
from pipeline.reporting.pcl.tables import PCL_FAMILY
from pipeline.reporting.published import pcl_published

FEATURES = ("center", "pcl", "pcl_deep", "hcp", "hcp_fs")  # methods of params.yaml with a loss on features and no adversary
BLACK_BOX = "from vgg"  # setting of pcl table 3


class Place(NamedTuple):
    """A row of verdict.csv, or of pcl table 3 where the attack is one of BLACK_BOX."""

    method: str
    attack: str


class Claim(NamedTuple):
    """Of each pair the first is above the second less margin. source: where the paper says so."""

    text: str
    source: str
    pairs: list[tuple[Place, Place]]
    margin: float = 0.0


class Answer(NamedTuple):
    """left: what AutoAttack leaves of each method that the claim is about."""

    claim: str
    source: str
    verdict: str
    measured: str
    left: str


def claims(published: pd.DataFrame) -> list[Claim]:
    adaptive, black_box = published_drop(pcl_published(published, 4)), most_lost(pcl_published(published, 3))
    return [
        Claim(
            "A loss on features helps under FGSM", "HCP table 2, PCL table 3", under("fgsm", [(m, "softmax_fs") for m in FEATURES])
        ),
        Claim("HCP > CL > PCL > SM", "HCP table 2", under("bim", pairwise(("hcp", "center", "pcl", "softmax_fs")))),
        Claim("HCP needs no softmax start", "HCP tables 1, 2", under(("clean", "bim"), [("hcp_fs", "hcp")]), 1.0),
        Claim("HCP + AT > AT", "HCP table 4", under(("clean", "bim"), [("hcp_at", "at")])),
        Claim("PCL + AT > Madry", "PCL tables 5, 6", under("pgd", [("pcl_at_pgd", "madry")])),
        Claim("The deeper the layer with the PCL loss, the better", "PCL table 11", under("pgd", pairwise(LAYERS))),
        Claim(
            f"An attack that knows the prototypes takes at most {adaptive:.1f} points more than PGD",
            "PCL table 4",
            [(Place(m, "adaptive"), Place(m, "pgd")) for m in (*FEATURES, "pcl_at_fgsm", "pcl_at_pgd", "hcp_at")],
            adaptive,
        ),
        Claim(
            f"Images made on another network cost PCL at most {black_box:.1f} points",
            "PCL table 3",
            [(Place(m, f"{BLACK_BOX} {attack}"), Place(m, "clean")) for m in PCL_FAMILY for attack in LINF],
            black_box,
        ),
    ]


def under(attacks: str | Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[tuple[Place, Place]]:
    named = (attacks,) if isinstance(attacks, str) else tuple(attacks)
    return [(Place(above, attack), Place(below, attack)) for above, below in pairs for attack in named]


def most_lost(table: pd.DataFrame) -> float:
    """table: pcl table 3 as published. The most that l-inf images from VGG cost a PCL model, over all data sets."""
    rows = table[table["key"].isin(PCL_FAMILY)]
    shown = rows[(rows["setting"] == BLACK_BOX) & rows["attack"].isin(LINF)]
    both = shown.merge(rows[rows["attack"] == "clean"], on=["dataset", "key"])
    return float((both["published_y"] - both["published_x"]).max())


def rows_of(dataset: str, verdict: pd.DataFrame, pcl: pd.DataFrame) -> pd.DataFrame:
    """What the claims are checked on. verdict, pcl: verdict.csv and pcl.csv."""
    shown = pcl[(pcl["table"] == 3) & (pcl["setting"] == BLACK_BOX) & pcl["measured"].notna() & pcl["attack"].isin(LINF)]
    rows = pd.concat([verdict, shown.assign(attack=f"{BLACK_BOX} " + shown["attack"])])
    return rows[rows["dataset"] == dataset]


def answer(claim: Claim, rows: pd.DataFrame) -> Answer:
    """rows: `rows_of` one data set."""
    values = {place: cell(rows[rows["method"] == place.method], place.attack) for pair in claim.pairs for place in pair}
    verdicts = {pair: order(values[pair[0]], values[pair[1]], claim.margin) for pair in claim.pairs}
    known = {pair: verdict for pair, verdict in verdicts.items() if verdict != MISSING}
    count = f", {[*known.values()].count(HOLDS)} of {len(known)}" if len(known) > 1 else ""
    labels = dict(zip(rows["method"], rows["label"], strict=True))
    by_attack: dict[str, list[str]] = {}
    for place in dict.fromkeys(place for pair in known for place in pair):
        by_attack.setdefault(attack_name(place.attack), []).append(value_text(labels[place.method], values[place]))
    measured = "<br>".join(f"{attack}: {', '.join(found)}" for attack, found in by_attack.items())
    methods = dict.fromkeys(place.method for pair in known for place in pair)
    return Answer(claim.text, claim.source, combined([*known.values()]) + count, measured, left_text(methods, rows, labels))


def attack_name(attack: str) -> str:
    if attack.startswith(BLACK_BOX):
        return f"{attack_text(attack.removeprefix(f'{BLACK_BOX} '))} from VGG-19"
    return attack if attack in ("clean", "adaptive") else attack_text(attack)


def value_text(label: str, value: Value | None) -> str:
    return f"{label} {value.measured:.1f}" if value else f"{label} -"


def left_text(methods: Iterable[str], rows: pd.DataFrame, labels: Mapping[str, str]) -> str:
    return ", ".join(value_text(labels[method], cell(rows[rows["method"] == method], "autoattack")) for method in methods)


def unmasked(status: pd.DataFrame, rows: pd.DataFrame) -> Answer:
    """Whether the losses on features mask gradients: whether a check warns, of those without an adversary. status: one data set's
    rows of verdict_status.csv."""
    own = status[status["method"].isin(FEATURES)]
    flagged = {str(row["method"]): int(row["flags"]) for _, row in own.iterrows() if row["flags"]}
    labels = dict(zip(own["method"], own["label"], strict=True))
    text = ", ".join(f"{labels[method]}: {flags} checks warn" for method, flags in flagged.items()) or "no check warns"
    verdict = MISSING if own.empty else FAILS if flagged else HOLDS
    left = left_text(list(labels), rows, labels)
    return Answer("A loss on features masks no gradients", "PCL section 6.6", verdict, text, left)


def answers(dataset: str, published: pd.DataFrame, verdict: pd.DataFrame, status: pd.DataFrame, pcl: pd.DataFrame) -> list[Answer]:
    """Claims that concern no method of the run are left out. verdict, status, pcl: the tables of those names."""
    rows = rows_of(dataset, verdict, pcl)
    found = [answer(claim, rows) for claim in claims(published)]
    found.append(unmasked(status[status["dataset"] == dataset], rows))
    return [one for one in found if one.verdict != MISSING]
