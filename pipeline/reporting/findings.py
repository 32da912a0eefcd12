"""A paper's qualitative claims against the measured tables: holds, does not hold, or not told apart. What the findings on both
papers share.

The 95 % interval of a difference is made of those of the two values, as if they were of different images (Newcombe's method 10 for
accuracies; Zou and Donner, Statistics in Medicine 2008, for any). That is cautious: all methods are tested on the same images.
"""

import re
from itertools import pairwise
from math import hypot
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.outcomes import NOISE, is_close
from pipeline.reporting.tables import interval

HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "not told apart", "not measured"
ITERATIVE = ("bim", "mim", "pgd")
WEAK = "attack too weak to tell"  # it knows more and leaves more images right: a worse attack, not a better model
UNSURE = "no interval"  # one batch is one experiment: two numbers that cannot be told apart from chance


class Claim(NamedTuple):
    """`above` is above `below` less `margin`, in the measured and the published values of table `table`, under `attack` (clean, an
    attack, noise_sample or noise_batch) at every eps of the table. above, below: published keys; a {key} in `text` stands for its
    label, see `named`."""

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


def named(text: str, names: dict[str, str]) -> str:
    """`text` with the label of each {key} in it. names: labels by published key."""
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], text)


def of(table: pd.DataFrame, key: str) -> pd.DataFrame:
    return table[table["key"] == key]


def cell(rows: pd.DataFrame, attack: str, eps: float | None = None) -> Value | None:
    """rows: one method's on one data set. None where nothing was measured."""
    rows = rows[(rows["attack"] == attack) & rows["measured"].notna()]
    if eps is not None:
        rows = rows[is_close(rows["eps"], eps)]
    return None if rows.empty else value_of(rows.iloc[0])


def value_of(row: pd.Series) -> Value:
    """A row of a table. An image that was not fooled needs more noise than was measured, but no pixel can move by more than 1: such
    a mean is a bound, and the interval reaches up to what the image range allows."""
    resisted = 1 - row["fooled"] / 100 if row["attack"].startswith(NOISE) else 0.0
    low, high = interval(row)
    return Value(row["measured"], low, high + resisted, row.get("published", float("nan")), resisted > 0)


def order(above: Value | None, below: Value | None, margin: float = 0.0) -> str:
    """Is `above` above `below` - margin? By the 95 % interval of their difference."""
    if above is None or below is None:
        return MISSING
    if pd.isna(above.low) or pd.isna(below.low):
        return UNSURE
    low, high = difference(above, below)
    return HOLDS if low > -margin else FAILS if high < -margin else OPEN


def difference(above: Value, below: Value) -> tuple[float, float]:
    """The 95 % interval of above - below."""
    d = above.measured - below.measured
    low = d - hypot(above.measured - above.low, below.high - below.measured)
    return low, d + hypot(above.high - above.measured, below.measured - below.low)


def too_weak(informed: Value | None, usual: Value | None) -> bool:
    """Does an attack that knows more than the usual one leave more images right?"""
    return order(informed, usual) == HOLDS


def combined(verdicts: list[str]) -> str:
    """One verdict for several: fails if one does, else the first of too weak, open, no interval and holds that is among them; what
    is not measured does not count."""
    measured = [verdict for verdict in verdicts if verdict != MISSING]
    if not measured:
        return MISSING
    return next((verdict for verdict in (FAILS, WEAK, OPEN, UNSURE) if verdict in measured), HOLDS)


def show(value: Value | None, digits: int) -> str:
    if value is None:
        return "-"
    interval = "" if pd.isna(value.low) else f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return f"{'≥ ' if value.bound else ''}{value.measured:.{digits}f}{interval}"


def check(claim: Claim, table: pd.DataFrame, dataset: str, names: dict[str, str]) -> list[Finding]:
    """table: the claim's table, one data set's rows. One finding for every eps in it."""
    rows = table[table["measured"].notna() & (table["attack"] == claim.attack)]
    return [_check_at(claim, table, dataset, eps, names) for eps in sorted(rows["eps"].dropna().unique())] or [
        Finding(dataset, named(claim.text, names), MISSING, "-", "-")
    ]


def _check_at(claim: Claim, table: pd.DataFrame, dataset: str, eps: float, names: dict[str, str]) -> Finding:
    above, below = (cell(of(table, key), claim.attack, eps) for key in (claim.above, claim.below))
    noise = claim.attack.startswith(NOISE)
    digits = 4 if noise else 1
    measured = f"{show(above, digits)} against {show(below, digits)}"
    text = named(claim.text, names) + (f", eps {eps:g}" if eps > 0 and not noise else "")
    return Finding(dataset, text, order(above, below, claim.margin), measured, published_pair(above, below))


def published_pair(above: Value | None, below: Value | None) -> str:
    if above is None or below is None or pd.isna(above.published) or pd.isna(below.published):
        return "-"
    return f"{above.published:.2f} against {below.published:.2f}"


def beats_under_every_attack(
    table: pd.DataFrame, dataset: str, above: str, below: str, eps: float, names: dict[str, str]
) -> Finding:
    """table: one data set's rows. One verdict for all attacks at that eps."""
    rows = table[table["measured"].notna() & is_close(table["eps"], eps)]
    pairs = {attack: [cell(of(rows, key), attack) for key in (above, below)] for attack in dict.fromkeys(rows["attack"])}
    verdict = combined([order(first, second) for first, second in pairs.values()])
    measured = "<br>".join(
        f"{attack.upper()} {show(first, 1)} against {show(second, 1)}" for attack, (first, second) in pairs.items()
    )
    claim = f"{names[above]} beats {names[below]} under every attack, eps {eps:g}"
    return Finding(dataset, claim, verdict, measured or "-", "-")


def counted(dataset: str, claim: str, orders: dict[str, str]) -> Finding:
    """One verdict for several comparisons, with how many hold and which do not."""
    known = {name: found for name, found in orders.items() if found != MISSING}
    return Finding(dataset, claim, combined(list(known.values())), count_text(known) if known else "-", "-")


def count_text(orders: dict[str, str]) -> str:
    """How many of the named comparisons hold, and which do not."""
    found = list(orders.values())
    text = f"{found.count(HOLDS)} of {len(found)} hold, {found.count(OPEN)} {OPEN}"
    failed = [name for name, verdict in orders.items() if verdict == FAILS]
    return text + (f"; not for {', '.join(failed)}" if failed else "")


def iterative_beats_single_step(table: pd.DataFrame, dataset: str, eps: float) -> Finding:
    """FGSM accuracy above that of each other attack, for each method. table: one data set's rows. Where it fails, the iterative
    attack is being misled, which is a sign of masked gradients."""
    rows = table[table["measured"].notna() & is_close(table["eps"], eps)]
    orders = {
        f"{label} {attack.upper()}": order(cell(own, "fgsm"), cell(own, attack))
        for label, own in rows.groupby("label", sort=False)
        for attack in own["attack"]
        if attack in ITERATIVE
    }
    return counted(dataset, "Iterative attacks are stronger than FGSM", orders)


def falls_with_eps(table: pd.DataFrame, clean: pd.DataFrame, dataset: str) -> Finding:
    """Accuracy from clean over each eps on: holds for a method and attack if the last is below the first, fails if it rises between
    two neighbours. table, clean: one data set's rows of attacks and of clean accuracy."""
    rows, orders = table[table["measured"].notna()], {}
    for (label, attack), same in rows.groupby(["label", "attack"], sort=False):
        own = clean[clean["label"] == label]
        steps = [cell(own, "clean"), *(cell(same, str(attack), eps) for eps in sorted(same["eps"]))]
        rises = FAILS in [order(a, b) for a, b in pairwise(steps)]
        orders[f"{label} {str(attack).upper()}"] = FAILS if rises else order(steps[0], steps[-1])
    return counted(dataset, "Accuracy falls with eps", orders)
