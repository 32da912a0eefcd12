"""The hcp paper's qualitative claims against the measured tables."""

import pandas as pd

from pipeline.reporting.findings import (
    FAILS,
    HOLDS,
    MISSING,
    Claim,
    Finding,
    beats_under_every_attack,
    check,
    falls_with_eps,
    iterative_beats_single_step,
)
from pipeline.reporting.outcomes import NOISE
from pipeline.reporting.tables import printed_strength

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
    Claim("{hcp} beats {hcp_m_p} under BIM", 4, "hcp", "hcp_m_p", "bim"),
    Claim("{hcp} beats {hcp_m_np} under BIM", 4, "hcp", "hcp_m_np", "bim"),
    Claim("{hcp} beats {hcp_p_np} under BIM", 4, "hcp", "hcp_p_np", "bim"),
    Claim("{hcp_at} beats {at} in clean accuracy", 4, "hcp_at", "at", "clean"),
    Claim("{hcp_at} beats {at} under BIM", 4, "hcp_at", "at", "bim"),
)


def all_fooled(table: pd.DataFrame, dataset: str) -> Finding:
    """table: table 3, one data set's rows."""
    rows = table[table["measured"].notna()]
    left = rows[rows["fooled"] < 100]
    eps = ", ".join(f"{eps:g}" for eps in dict.fromkeys(rows["eps"]))
    names = zip(left["label"], left["stop"], left["fooled"], strict=True)
    measured = "; ".join(f"{label} {fooled:.5g} % fooled (stop: {stop})" for label, stop, fooled in names)
    verdict = MISSING if rows.empty else FAILS if len(left) else HOLDS
    return Finding(dataset, f"Every model falls to 0 % at eps {eps or '-'}", verdict, measured or "all images fooled", "-")


def hcp_findings(tables: dict[int, pd.DataFrame], table_eps: dict[str, float], names: dict[str, str]) -> list[Finding]:
    """tables: `hcp_tables` by number; table_eps: by data set that was run; names: labels by published key."""
    findings = []
    for dataset, eps in table_eps.items():
        own = {number: table[table["dataset"] == dataset] for number, table in tables.items()}
        strengths = sorted(own[2].loc[own[2]["measured"].notna(), "eps"].unique())
        findings += [finding for claim in CLAIMS for finding in check(claim, own[claim.table], dataset, names)]
        findings += [beats_under_every_attack(own[2], dataset, "hcp_fs", "softmax_fs", strength, names) for strength in strengths]
        findings.append(all_fooled(own[3], dataset))
        findings.append(iterative_beats_single_step(own[2], dataset, printed_strength(own[2], eps)))
        findings.append(falls_with_eps(own[2], own[1], dataset))
    return findings
