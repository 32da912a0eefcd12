"""The pcl paper's qualitative claims against the measured tables; the verdicts are those of the common findings.py. Methods are
named by their published keys."""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from pipeline.reporting.findings import (
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    WEAK,
    Claim,
    Finding,
    Value,
    beats_under_every_attack,
    cell,
    check,
    combined,
    counted,
    falls_with_eps,
    iterative_beats_single_step,
    named,
    of,
    order,
    published_pair,
    show,
    too_weak,
    value_of,
)
from pipeline.reporting.markdown import attack_text
from pipeline.reporting.outcomes import CW, LINF
from pipeline.reporting.pcl.cost import RATIO
from pipeline.reporting.pcl.tables import ADAPTIVE_SETTING, COMPARISONS, PCL_FAMILY, WHITE_BOX
from pipeline.reporting.tables import printed_strength

LAYERS = ("pcl_5", "pcl_4", "pcl_3", "pcl_2", "pcl_1")  # table 11, deepest first
CLAIMS = (
    Claim("{pcl_deep} loses at most 1 point of clean accuracy against {softmax_fs}", 3, "pcl_deep", "softmax_fs", "clean", 1.0),
    Claim("{pcl_at_pgd} beats {madry} under PGD", 5, "pcl_at_pgd", "madry", "pgd"),
    Claim("{pcl_at_fgsm} beats {at_fgsm} under PGD", 5, "pcl_at_fgsm", "at_fgsm", "pgd"),
    Claim("{pcl_deep} beats {adp} under PGD", 5, "pcl_deep", "adp", "pgd"),
    Claim("{pcl_deep} beats {input_gradient} under PGD", 5, "pcl_deep", "input_gradient", "pgd"),
    Claim("{pcl_at_pgd} beats {atda} under PGD", 8, "pcl_at_pgd", "atda", "pgd"),
    Claim("{pcl_at_pgd} beats {atda} in clean accuracy", 8, "pcl_at_pgd", "atda", "clean"),
)
EVERY_ATTACK = (  # table, above, below; at the strength of the table
    *((3, "pcl_deep", "softmax_fs"), (3, "pcl_at_fgsm", "pcl_deep"), (3, "pcl_at_pgd", "pcl_deep")),
    *((9, "pcl_deep", other) for other in ("center_deep", "contrastive", "triplet", "softmax_deep")),
)


def in_setting(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    return table[table["setting"] == setting]


def under_cw(table: pd.DataFrame, dataset: str, c: float, names: dict[str, str]) -> Finding:
    """table: table 3, white-box."""
    above, below = (cell(of(table, key), CW, c) for key in ("pcl_deep", "softmax_fs"))
    text = f"{show(above, 1)} against {show(below, 1)}"
    claim = named("{pcl_deep} beats {softmax_fs} under C&W", names)
    return Finding(dataset, f"{claim}, c {c:g}", order(above, below), text, published_pair(above, below))


def deeper_is_better(table: pd.DataFrame, dataset: str, names: dict[str, str]) -> list[Finding]:
    """table: table 11, one data set's rows."""
    values = {key: cell(of(table, key), "pgd") for key in (*LAYERS, "pcl", "pcl_deep", "softmax_fs")}

    def orders(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        return {f"{names[a]} over {names[b]}": order(values[a], values[b]) for a, b in pairs}

    chain, best = orders(pairwise(LAYERS)), orders(("pcl_deep", other) for other in ("softmax_fs", "pcl", *LAYERS))
    return [
        counted(dataset, "The deeper the layer with the PCL loss, the better under PGD: 5 > 4 > 3 > 2 > 1", chain),
        counted(dataset, named("{pcl_deep} is the best choice of layers under PGD", names), best),
    ]


def published_drop(table: pd.DataFrame) -> float:
    """The most that an adaptive attack costs in the paper's table 4, over all data sets."""
    keys = ["dataset", "key", "attack", "eps"]
    rows = in_setting(table, ADAPTIVE_SETTING).merge(in_setting(table, WHITE_BOX), on=keys)
    return float((rows["published_y"] - rows["published_x"]).max())


def adaptive_verdict(adaptive: Value | None, usual: Value | None, drop: float) -> str:
    """Does it cost at most `drop` points? Where the adaptive attack is the weaker one, the prototype term spoils its objective, and
    what it leaves says nothing about an attacker with knowledge of the prototypes."""
    return WEAK if too_weak(adaptive, usual) else order(adaptive, usual, drop)


def adaptive_costs_little(table: pd.DataFrame, dataset: str, drop: float, names: dict[str, str]) -> list[Finding]:
    """table: table 4, one data set's rows. Knowing the prototypes costs each PCL model at most `drop` points under each attack."""
    findings = []
    for key in PCL_FAMILY:
        own = [in_setting(of(table, key), setting) for setting in (ADAPTIVE_SETTING, WHITE_BOX)]
        pairs = {attack: [cell(rows, attack) for rows in own] for attack in LINF}
        pairs = {attack: pair for attack, pair in pairs.items() if None not in pair}
        verdicts = {attack: adaptive_verdict(adaptive, usual, drop) for attack, (adaptive, usual) in pairs.items()}
        measured = "<br>".join(
            f"{attack.upper()} {show(a, 1)} against {show(b, 1)}{f': {WEAK}' if verdicts[attack] == WEAK else ''}"
            for attack, (a, b) in pairs.items()
        )
        claim = f"{names[key]}: an attack with knowledge of the prototypes takes at most {drop:.2g} points more"
        findings.append(Finding(dataset, claim, combined(list(verdicts.values())), measured or "-", "-"))
    return findings


def black_box_above_white_box(table: pd.DataFrame, dataset: str, names: dict[str, str]) -> Finding:
    """table: table 3, one data set's rows. The reverse would be a sign of masked gradients."""
    orders = {}
    for key in PCL_FAMILY:
        own = of(table, key)
        for attack in (*LINF, CW):
            outside, inside = (cell(in_setting(own, setting), attack) for setting in ("from vgg", WHITE_BOX))
            orders[f"{names[key]} {attack_text(attack)}"] = order(outside, inside)
    return counted(dataset, "Images made on another network harm PCL less than its own", orders)


def own_images_harm_most(table: pd.DataFrame, dataset: str) -> Finding:
    """table: table 13, one data set's rows: the white-box value of each target is the lowest of its column."""
    rows, orders = table[table["measured"].notna()], {}
    for target, column in rows.groupby("key", sort=False):
        own = cell(in_setting(column, f"from {target}"), "pgd")
        for setting in column["setting"]:
            if setting != f"from {target}":
                other = cell(in_setting(column, str(setting)), "pgd")
                orders[f"{column['label'].iloc[0]} {setting}"] = order(other, own)
    return counted(dataset, "PGD images made on a model itself harm it most (table 13)", orders)


def falls_to_zero(sweep: pd.DataFrame, dataset: str, names: dict[str, str]) -> Finding:
    """sweep: figure 7, PCL without adversarial training on one data set, under the strongest attack at the largest eps, as one
    large step of FGSM may leave what others do not. Holds with no image left right, fails with an interval above 0."""
    rows = sweep[sweep["attack"].isin(LINF)]
    claim = named("{pcl_deep} falls to 0 % under the strongest attack when nothing bounds the noise but the image range", names)
    claim += " (figure 7)"
    if rows.empty:
        return Finding(dataset, claim, MISSING, "-", "-")
    last = rows[rows["eps"] == rows["eps"].max()]
    values = {str(row["attack"]): value_of(row) for _, row in last.iterrows()}
    strongest = min(values.values(), key=lambda value: value.measured)
    verdict = HOLDS if strongest.measured == 0 else FAILS if strongest.low > 0 else OPEN
    measured = ", ".join(f"{attack.upper()} {show(value, 1)}" for attack, value in values.items())
    return Finding(dataset, claim, verdict, f"eps {last['eps'].iloc[0]:g}: {measured}", "-")


def cost_value(cost: pd.DataFrame, key: str) -> Value | None:
    """cost: table 12, one data set's rows. The interval is the range over the repeats."""
    rows = of(cost, key)[lambda own: own["metric"] == RATIO]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Value(row["measured"], row["low"], row["high"], row["published"], False)


def costs_at_most(cost: pd.DataFrame, dataset: str, names: dict[str, str]) -> list[Finding]:
    findings = []
    for other in ("contrastive", "triplet"):
        theirs, ours = cost_value(cost, other), cost_value(cost, "pcl_deep")
        claim = named(f"An epoch of {{pcl_deep}} costs at most as much as one of {{{other}}} (times cross entropy's)", names)
        text = f"{show(ours, 2)} against {show(theirs, 2)}"
        findings.append(Finding(dataset, claim, order(theirs, ours), text, published_pair(ours, theirs)))
    return findings


def pcl_findings(
    tables: dict[int, pd.DataFrame],
    sweep: pd.DataFrame,
    table_eps: dict[str, float],
    table_c: dict[str, float],
    names: dict[str, str],
) -> list[Finding]:
    """tables: `pcl_table` by number, 12 `cost_table`; sweep: `sweep_table`; table_eps, table_c: by data set that was run; names:
    labels by published key."""
    findings, drop = [], published_drop(tables[4])
    for dataset, eps in table_eps.items():
        own = {number: table[table["dataset"] == dataset] for number, table in tables.items()}
        inside = in_setting(own[3], WHITE_BOX)
        attacks = {3: inside[inside["attack"].isin(LINF)], 9: own[9][own[9]["attack"].isin(LINF)]}
        strength = {number: printed_strength(rows, eps) for number, rows in attacks.items()}
        findings += [beats_under_every_attack(attacks[n], dataset, a, b, strength[n], names) for n, a, b in EVERY_ATTACK]
        findings.append(under_cw(inside, dataset, printed_strength(inside, table_c[dataset], (CW,)), names))
        number = next(number for number in COMPARISONS if number == COMPARISONS[-1] or own[number]["measured"].notna().any())
        claims = [claim._replace(table=number) if claim.table in COMPARISONS else claim for claim in CLAIMS]
        findings += [finding for claim in claims for finding in check(claim, own[claim.table], dataset, names)]
        findings += deeper_is_better(own[11], dataset, names)
        findings += adaptive_costs_little(own[4], dataset, drop, names)
        findings += [black_box_above_white_box(own[3], dataset, names), own_images_harm_most(own[13], dataset)]
        findings.append(iterative_beats_single_step(inside[inside["key"].isin(PCL_FAMILY)], dataset, strength[3]))
        of_pcl = of(sweep[sweep["dataset"] == dataset], "pcl_deep")
        findings += [falls_with_eps(of_pcl[of_pcl["attack"].isin(LINF)], of_pcl, dataset), falls_to_zero(of_pcl, dataset, names)]
        findings += costs_at_most(own[12], dataset, names)
    return findings
