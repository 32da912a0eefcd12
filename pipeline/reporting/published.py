"""What others measured: published.csv, the one file that holds their figures.

One figure a row: paper (hcp, pcl, robustbench), table, dataset, method (as the table calls it), variant, setting, attack, budget
(for l-inf attacks eps in [0, 1] pixels), metric, value, std, and `key`: the method of params.yaml that the row is about.

    softmax-fs -> softmax_fs    at-pgd -> at      center -> center    pcl -> pcl      M+P -> hcp_m_p      P+NP -> hcp_p_np
    hcp, M+P+NP -> hcp          hcp-fs -> hcp_fs  hcp+at-pgd -> hcp_at                M+NP -> hcp_m_np

Rows of the pcl paper have no key. Misprints are kept as printed.
"""

from pathlib import Path

import pandas as pd

PATH = Path(__file__).with_name("published.csv")


def load_published() -> pd.DataFrame:
    text = dict.fromkeys(("paper", "table", "dataset", "method", "variant", "setting", "attack", "metric", "key"), str)
    return pd.read_csv(PATH, dtype={**text, "budget": float, "value": float, "std": float})


def published_value(published: pd.DataFrame, **where: str | float) -> float:
    """The one value whose columns equal `where`. Raises ValueError when there is none or more than one."""
    rows = published
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    if len(rows) != 1:
        raise ValueError(f"published.csv has {len(rows)} rows with {where}, expected one")
    return float(rows["value"].iloc[0])


def published_epochs(published: pd.DataFrame) -> dict[str, int]:
    """The schedule of the hcp paper, by the names of params.yaml: pretrain, train."""
    rows = published[(published["paper"] == "hcp") & (published["metric"] == "epochs")]
    return {str(name): int(value) for name, value in zip(rows["variant"], rows["value"], strict=True)}


def published_table(published: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table `number` of the hcp paper as dataset, method, attack, eps, metric, published, published_std. Table 3 is the noise
    measurement with the authors' stop rule, which the outcomes call noise_batch."""
    rows = published[(published["paper"] == "hcp") & (published["table"] == str(number))]
    return pd.DataFrame(
        {
            "dataset": rows["dataset"],
            "method": rows["key"],
            "attack": "noise_batch" if number == 3 else rows["attack"],
            "eps": rows["budget"].fillna(0.0),  # clean
            "metric": rows["metric"],
            "published": rows["value"],
            "published_std": rows["std"],
        }
    ).reset_index(drop=True)
