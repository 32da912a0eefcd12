"""A paper's qualitative claims against the measured tables: holds, does not hold, or the 95 % intervals overlap. The claims of the
hcp paper are here, those of the pcl paper in pcl_findings.py.

Overlap is a cautious rule: all methods are tested on the same images, so their difference is known better than either value.
"""

import re
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.outcomes import NOISE, is_close

HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "within the 95 % interval", "not measured"
ITERATIVE = ("bim", "mim", "pgd")
WEAK = "attack too weak to tell"  # it knows more and leaves more images right: a worse attack, not a better model
UNSURE = "no interval"  # one batch is one experiment: two numbers that cannot be told apart from chance


class Claim(NamedTuple):
    """`above` is above `below` less `margin`, in the measured and the published values of table `table`, under `attack` (clean, an
    attack, noise_sample or noise_batch) at every eps of the table. A {method} in `text` stands for its label, see `named`."""

    text: str
    table: int
    above: str
    below: str
    attack: str
    margin: float = 0.0


class Value(NamedTuple):
    measured: float
    low: float
    high: float
    published: float
    bound: bool  # the mean is only a lower bound: not every image was fooled


class Finding(NamedTuple):
    dataset: str
    claim: str
    verdict: str
    measured: str
    paper: str


CLAIMS = (
    Claim("{hcp} beats {center} under BIM", 2, "hcp", "center", "bim"),
    Claim("{hcp} beats {pcl} under BIM", 2, "hcp", "pcl", "bim"),
    Claim("{hcp} beats {at} under BIM", 2, "hcp", "at", "bim"),
    Claim("{hcp} loses at most 1 point of clean accuracy against {softmax_fs}", 1, "hcp", "softmax_fs", "clean", 1.0),
    Claim("{hcp_fs} loses at most 1 point of clean accuracy against {softmax_fs}", 1, "hcp_fs", "softmax_fs", "clean", 1.0),
    Claim("{softmax_fs} beats {at} in clean accuracy", 1, "softmax_fs", "at", "clean"),
    *(
        Claim(f"{{hcp}} needs more noise than {{{other}}} (stop: {stop})", 3, "hcp", other, NOISE + stop)
        for stop in ("batch", "sample")
        for other in ("at", "center", "pcl")
    ),
    Claim("{hcp} is at least as good as {hcp_m_p} under BIM", 4, "hcp", "hcp_m_p", "bim"),
    Claim("{hcp} is at least as good as {hcp_m_np} under BIM", 4, "hcp", "hcp_m_np", "bim"),
    Claim("{hcp} is at least as good as {hcp_p_np} under BIM", 4, "hcp", "hcp_p_np", "bim"),
    Claim("{hcp_at} beats {at} in clean accuracy", 4, "hcp_at", "at", "clean"),
    Claim("{hcp_at} beats {at} under BIM", 4, "hcp_at", "at", "bim"),
)


def named(text: str, labels: dict[str, str]) -> str:
    """`text` with the label of each {method} in it; without a label, its name."""
    return re.sub(r"\{(\w+)\}", lambda found: labels.get(found[1], found[1]), text)


def cell(table: pd.DataFrame, method: str, attack: str, eps: float | None = None) -> Value | None:
    """table: one data set's rows. None where nothing was measured."""
    rows = table[(table["method"] == method) & (table["attack"] == attack) & table["measured"].notna()]
    if eps is not None:
        rows = rows[is_close(rows["eps"], eps)]
    return None if rows.empty else value_of(rows.iloc[0])


def value_of(row: pd.Series) -> Value:
    """A row of a table. An image that was not fooled needs more noise than was measured, but no pixel can move by more than 1: such
    a mean is a bound, and the interval reaches up to what the image range allows."""
    resisted = 1 - row["fooled"] / 100 if row["attack"].startswith(NOISE) else 0.0
    spread = 1.96 * row["seed_std"] / row["seeds"] ** 0.5 if row["seeds"] > 1 else 0.0  # another training run would differ, too
    return Value(row["measured"], row["ci95_low"] - spread, row["ci95_high"] + spread + resisted, row["published"], resisted > 0)


def order(above: Value | None, below: Value | None, margin: float = 0.0) -> str:
    """Is `above` above `below` - margin?"""
    if above is None or below is None:
        return MISSING
    if pd.isna(above.low) or pd.isna(below.low):
        return UNSURE
    if above.low > below.high - margin:
        return HOLDS
    return FAILS if above.high < below.low - margin else OPEN


def too_weak(informed: Value | None, usual: Value | None) -> bool:
    """Does an attack that knows more than the usual one leave more images right, intervals apart?"""
    return order(informed, usual) == HOLDS


def together(verdicts: list[str]) -> str:
    """One verdict for several: fails if one does, else the first of too weak, open and holds that is among them; what is not
    measured does not count."""
    measured = [verdict for verdict in verdicts if verdict != MISSING]
    if not measured:
        return MISSING
    return next((verdict for verdict in (FAILS, WEAK, OPEN) if verdict in measured), HOLDS)


def show(value: Value | None, digits: int) -> str:
    if value is None:
        return "-"
    interval = "" if pd.isna(value.low) else f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return f"{'≥ ' if value.bound else ''}{value.measured:.{digits}f}{interval}"


def judge(claim: Claim, table: pd.DataFrame, dataset: str) -> list[Finding]:
    """table: the claim's table, one data set's rows. One finding for every eps in it."""
    rows = table[table["measured"].notna() & (table["attack"] == claim.attack)]
    return [_judge_at(claim, table, dataset, eps) for eps in sorted(rows["eps"].dropna().unique())] or [
        Finding(dataset, claim.text, MISSING, "-", "-")
    ]


def _judge_at(claim: Claim, table: pd.DataFrame, dataset: str, eps: float) -> Finding:
    above, below = (cell(table, method, claim.attack, eps) for method in (claim.above, claim.below))
    noise = claim.attack.startswith(NOISE)
    digits = 4 if noise else 1
    measured = f"{show(above, digits)} against {show(below, digits)}"
    paper = "-"
    if above and below and pd.notna(above.published) and pd.notna(below.published):
        paper = f"{above.published:.2f} against {below.published:.2f}"
    text = f"{claim.text}, eps {eps:g}" if eps > 0 and not noise else claim.text
    return Finding(dataset, text, order(above, below, claim.margin), measured, paper)


def beats_under_every_attack(table: pd.DataFrame, dataset: str, claim: str, above: str, below: str, eps: float) -> Finding:
    """table: one data set's rows. One verdict for all attacks at that eps."""
    rows = table[table["measured"].notna() & is_close(table["eps"], eps)]
    pairs = {attack: [cell(rows, method, attack, eps) for method in (above, below)] for attack in dict.fromkeys(rows["attack"])}
    verdict = together([order(first, second) for first, second in pairs.values()])
    measured = "<br>".join(
        f"{attack.upper()} {show(first, 1)} against {show(second, 1)}" for attack, (first, second) in pairs.items()
    )
    return Finding(dataset, f"{claim}, eps {eps:g}", verdict, measured or "-", "-")


def all_fooled(table: pd.DataFrame, dataset: str) -> Finding:
    """table: table 3, one data set's rows."""
    rows = table[table["measured"].notna()]
    left = rows[rows["fooled"] < 100]
    eps = ", ".join(f"{eps:g}" for eps in dict.fromkeys(rows["eps"]))
    names = zip(left["label"], left["stop"], left["fooled"], strict=True)
    measured = "; ".join(f"{label} {fooled:.5g} % fooled (stop: {stop})" for label, stop, fooled in names)
    verdict = MISSING if rows.empty else FAILS if len(left) else HOLDS
    return Finding(dataset, f"Every model falls to 0 % at eps {eps or '-'}", verdict, measured or "all images fooled", "-")


def count_text(orders: dict[str, str]) -> str:
    """How many of the named comparisons hold, and which do not."""
    found = list(orders.values())
    text = f"{found.count(HOLDS)} of {len(found)} hold, {found.count(OPEN)} within the interval"
    failed = [name for name, verdict in orders.items() if verdict == FAILS]
    return text + (f"; not for {', '.join(failed)}" if failed else "")


def iterative_beats_single_step(table: pd.DataFrame, dataset: str, headline_eps: float) -> Finding:
    """FGSM accuracy above that of each other attack, for each method. table: table 2, one data set's rows. Where it fails, the
    iterative attack is being misled, which is a sign of masked gradients."""
    rows = table[table["measured"].notna() & is_close(table["eps"], headline_eps) & table["attack"].isin(ITERATIVE)]
    orders = {
        f"{label} {attack.upper()}": order(cell(table, method, "fgsm", headline_eps), cell(table, method, attack, headline_eps))
        for method, label, attack in zip(rows["method"], rows["label"], rows["attack"], strict=True)
    }
    measured = count_text(orders) if together(list(orders.values())) != MISSING else "-"
    return Finding(dataset, "Iterative attacks are stronger than FGSM", together(list(orders.values())), measured, "-")


def falls_with_eps(table: pd.DataFrame, clean: pd.DataFrame, dataset: str) -> Finding:
    """Accuracy from clean over each eps on: holds for a method and attack if the last is below the first, fails if it rises between
    two neighbours. table, clean: tables 2 and 1, one data set's rows."""
    rows, orders = table[table["measured"].notna()], {}
    for (method, attack), same in rows.groupby(["method", "attack"], sort=False):
        steps = [cell(clean, str(method), "clean"), *(cell(same, str(method), str(attack), eps) for eps in sorted(same["eps"]))]
        rises = FAILS in [order(a, b) for a, b in pairwise(steps)]
        orders[f"{same['label'].iloc[0]} {str(attack).upper()}"] = FAILS if rises else order(steps[0], steps[-1])
    measured = count_text(orders) if orders else "-"
    return Finding(dataset, "Accuracy falls with eps", together(list(orders.values())), measured, "-")


def hcp_findings(tables: dict[int, pd.DataFrame], headline_eps: dict[str, float], labels: dict[str, str]) -> list[Finding]:
    """tables: `hcp_tables` by number; headline_eps: by data set, which are the data sets that were run."""
    findings, claims = [], [claim._replace(text=named(claim.text, labels)) for claim in CLAIMS]
    for dataset, eps in headline_eps.items():
        own = {number: table[table["dataset"] == dataset] for number, table in tables.items()}
        strengths = sorted(own[2].loc[own[2]["measured"].notna(), "eps"].unique())
        findings += [finding for claim in claims for finding in judge(claim, own[claim.table], dataset)]
        text = named("{hcp_fs} beats {softmax_fs} under every attack", labels)
        findings += [beats_under_every_attack(own[2], dataset, text, "hcp_fs", "softmax_fs", strength) for strength in strengths]
        findings.append(all_fooled(own[3], dataset))
        findings.append(iterative_beats_single_step(own[2], dataset, eps))
        findings.append(falls_with_eps(own[2], own[1], dataset))
    return findings
