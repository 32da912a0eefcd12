"""What both papers claim, in one line each, against what a run measured, and what AutoAttack leaves."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.coverage import figures
from pipeline.reporting.findings import FAILS, HOLDS, MISSING, Value, cell, combined, order
from pipeline.reporting.markdown import attack_text, name_attack
from pipeline.reporting.outcomes import ADAPTIVE, LINF, is_close
from pipeline.reporting.pcl.findings import LAYERS, adaptive_verdict, published_drop
from pipeline.reporting.pcl.tables import ADAPTIVE_SETTING, PCL_FAMILY, WHITE_BOX
from pipeline.reporting.published import pcl_published
from pipeline.reporting.verdict.status import FEATURES as FEATURES_GROUP
from pipeline.reporting.verdict.status import FEATURES_ADVERSARIAL

TABLES = ("verdict", "verdict_status", "pcl", "curves")  # files that the claims are checked on
FEATURES = ("center", "pcl", "pcl_deep", "hcp", "hcp_fs")  # published keys of the losses on features without an adversary
BLACK_BOX = "from vgg "  # before the attacks of pcl table 3 that are made on another network, and its clean accuracy
TABLE_4 = "table 4 "  # before attacks at the eps of pcl table 4
WEAKER = "weaker "  # before attacks at the eps at which BIM leaves nearest to half of the undefended model's images right


class Place(NamedTuple):
    """A row of verdict.csv by published key; of pcl table 3 where the attack begins with BLACK_BOX, of pcl table 4 where it
    begins with TABLE_4, of curves.csv where it begins with WEAKER."""

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
            "CL, PCL and HCP help under FGSM",
            under([WEAKER + "fgsm"], [(key, "softmax_fs") for key in FEATURES]),
            (("hcp", 2), ("pcl", 3)),
        ),
        Claim("HCP > CL > PCL > SM", under([WEAKER + "bim"], pairwise(("hcp", "center", "pcl", "softmax_fs"))), (("hcp", 2),)),
        Claim(
            "HCP needs no softmax start: it loses at most a point",
            under(["clean", WEAKER + "bim"], [("hcp_fs", "hcp")]),
            (("hcp", 1), ("hcp", 2)),
            margin=1.0,
        ),
        Claim("HCP + AT > AT", under(["clean", "bim"], [("hcp_at", "at")]), (("hcp", 4),)),
        Claim("PCL + AT > Madry", under(["pgd"], [("pcl_at_pgd", "madry")]), (("pcl", 5), ("pcl", 6))),
        Claim("The deeper the layer with the PCL loss, the better", under(["pgd"], pairwise(LAYERS)), (("pcl", 11),)),
        Claim(
            f"An attack that knows the prototypes takes at most {adaptive:.1f} points more",
            [(Place(key, TABLE_4 + ADAPTIVE + attack), Place(key, TABLE_4 + attack)) for key in PCL_FAMILY for attack in LINF],
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
            above, below = (rows[(rows["key"] == key) & (rows["attack"] == attack.removeprefix(WEAKER))] for key, attack in pair)
            both = above.merge(below, on=["dataset", "eps"])
            right += list(both["published_x"] > both["published_y"] - claim.margin)
    return f"{', '.join(names)}: {sum(right)} of {len(right)}"


def rows_of(dataset: str, tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> pd.DataFrame:
    """What the claims are checked on. tables: as in `answers`; keys: published ones by method."""
    own = {name: table[table["dataset"] == dataset] for name, table in tables.items()}
    own = {name: table.assign(key=[keys.get(method, method) for method in table["method"]]) for name, table in own.items()}
    pcl = own["pcl"][own["pcl"]["measured"].notna() & own["pcl"]["attack"].isin(("clean", *LINF))]
    third, fourth = pcl[pcl["table"] == 3], pcl[(pcl["table"] == 4) & (pcl["attack"] != "clean")]
    shown = third[(third["setting"] == BLACK_BOX.strip()) | (third["attack"] == "clean")]
    informed = fourth["setting"].map({ADAPTIVE_SETTING: TABLE_4 + ADAPTIVE}).fillna(TABLE_4)
    parts = [own["verdict"], shown.assign(attack=BLACK_BOX + shown["attack"]), fourth.assign(attack=informed + fourth["attack"])]
    return pd.concat([*parts, weaker_rows(own["curves"])], ignore_index=True)


def weaker_rows(curves: pd.DataFrame) -> pd.DataFrame:
    """curves: curves.csv, one data set's rows, with a column `key`. Those that WEAKER says, none without an undefended model."""
    undefended = curves[(curves["key"] == "softmax_fs") & (curves["attack"] == "bim")]
    if undefended.empty:
        return undefended
    eps = float(undefended["eps"].iloc[(undefended["measured"] - 50).abs().argmin()])
    rows = curves[is_close(curves["eps"], eps)]
    return rows.assign(attack=WEAKER + rows["attack"])


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
        name = attack_name(place.attack, float(rows.loc[rows["attack"] == place.attack, "eps"].iloc[0]), source)
        by_attack.setdefault(name, []).append(value_text(labels[place.key], values[place]))
    measured = "<br>".join(f"{attack}: {', '.join(found)}" for attack, found in by_attack.items())
    keys = dict.fromkeys(place.key for pair in known for place in pair)
    verdict = combined([*known.values()]) + count
    return Answer(claim.text, source_text(claim, printed), verdict, measured, left_text(keys, rows, labels))


def attack_name(attack: str, eps: float, source: str) -> str:
    if attack.startswith((WEAKER, TABLE_4)):
        return name_attack(attack.removeprefix(WEAKER).removeprefix(TABLE_4), eps)
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
    own = status[status["group"] == FEATURES_GROUP]
    text, besides = warned(own), warned(status[status["group"] == FEATURES_ADVERSARIAL])
    verdict = MISSING if own.empty else FAILS if text else HOLDS
    names = dict(zip(rows["method"], rows["key"], strict=True))
    left = left_text([names[method] for method in own["method"]], rows, dict(zip(rows["key"], rows["label"], strict=True)))
    measured = f"checks that warn: {text}" if text else f"no check warns of {len(own)} models"
    measured += f"<br>with adversarial training: {besides}" if besides else ""
    return Answer("A loss on features alone masks no gradients", "PCL section 6.6", verdict, measured, left)


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
    found = [answer(claim, rows, printed, source) for claim in claims(published)]
    status = tables["verdict_status"]
    found.append(unmasked(status[status["dataset"] == dataset], rows))
    return [one for one in found if one.verdict != MISSING]
