"""What others measured: published.csv, the one file that holds their figures.

One figure a row: paper (hcp, pcl, robustbench), table, dataset, method (as the table calls it), variant, setting, attack, budget
(for l-inf attacks eps in [0, 1] pixels, for C&W its first c), metric, value, std, and `key`: the published method that the row is
about, one name over all tables. `published:` of a method in params.yaml says which of them it is.

hcp
    softmax-fs -> softmax_fs    at-pgd -> at      center -> center    pcl -> pcl      M+P -> hcp_m_p      P+NP -> hcp_p_np
    hcp, M+P+NP -> hcp          hcp-fs -> hcp_fs  hcp+at-pgd -> hcp_at                M+NP -> hcp_m_np
pcl
    softmax -> softmax_fs       pcl ("Ours") -> pcl_deep              pcl+at-fgsm -> pcl_at_fgsm          pcl+at-pgd -> pcl_at_pgd
    at-kurakin [31] -> at_fgsm  yu [45] -> yu     adp [16] -> adp     madry [17] -> madry                 atda-song [46] -> atda
    input-gradient-reg [33] -> input_gradient     center -> center_deep                    contrastive, triplet -> the same
    table 8, "Ours" -> pcl_at_pgd, on CIFAR-100 pcl_deep: so say the clean accuracies of table 3, except that on SVHN and
    Fashion-MNIST they are the same for both models
    table 11, layers=none -> softmax_fs, layers=1 .. 5 -> pcl_1 .. pcl_5, layers=4+5 -> pcl, layers=3+4+5 -> pcl_deep
    table 13, key = target: vgg19 -> vgg, at-kurakin -> vgg_at_fgsm, pcl -> pcl_at_pgd (its value from VGG-19 is that of
    table 3's PGD-trained model); the source is in `setting`

Misprints are kept as printed.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.run import Run

PATH = Path(__file__).with_name("published.csv")
NAMES = {  # what tables call a published method that is not in the run
    "softmax_fs": "SM (FS)",
    "at": "AT (SM)",
    "center": "CL (SM)",
    "pcl": "PCL (SM)",
    "hcp": "HCP (SM)",
    "hcp_fs": "HCP (FS)",
    "hcp_m_p": "HCP M+P",
    "hcp_m_np": "HCP M+NP",
    "hcp_p_np": "HCP P+NP",
    "hcp_at": "HCP + AT",
    "pcl_deep": "PCL (3+4+5)",
    "pcl_at_fgsm": "PCL + AT-FGSM",
    "pcl_at_pgd": "PCL + AT-PGD",
    "at_fgsm": "AT-FGSM (Kurakin)",
    "madry": "Madry",
    "input_gradient": "Input gradient (Ross)",
    "adp": "ADP (Pang)",
    "atda": "ATDA (Song)",
    "yu": "Yu",
    "softmax_deep": "SM (3+4+5)",
    "center_deep": "CL (3+4+5)",
    "contrastive": "Contrastive",
    "triplet": "Triplet",
    **{f"pcl_{layer}": f"PCL ({layer})" for layer in range(1, 6)},
    "vgg": "VGG-19",
    "vgg_at_fgsm": "VGG-19 AT-FGSM",
}


class Paper(NamedTuple):
    """Which methods of the run have a row in a paper's tables. keys: the published key of each, in the order of the run, "" where
    the paper has none; labels: of all methods by name; names: the same by published key, with those of the paper that are not in
    the run."""

    keys: dict[str, str]
    labels: dict[str, str]
    names: dict[str, str]

    def method(self, key: str) -> str | None:
        """Which method is the published one."""
        return next((method for method, own in self.keys.items() if own == key), None)


def paper_rows(run: Run, paper: str) -> Paper:
    """paper: hcp or pcl."""
    keys = {name: method.published or "" for name, method in run.methods.items() if paper in method.papers}
    keys |= {name: source.published or "" for name, source in run.sources.items() if paper == "pcl"}
    labels = run.labels | {name: source.label for name, source in run.sources.items()}
    taken = set(labels.values())
    names = {key: f"{name} (paper)" if name in taken else name for key, name in NAMES.items()}
    return Paper(keys, labels, names | {key: labels[method] for method, key in keys.items() if key})


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


def published_epochs(published: pd.DataFrame, paper: str) -> dict[str, dict[str, int]]:
    """The schedule of a paper by the names of params.yaml: {pretrain: {data set or `all`: epochs}, train: ...}."""
    rows = published[(published["paper"] == paper) & published["table"].str.startswith("sec") & (published["metric"] == "epochs")]
    result: dict[str, dict[str, int]] = {}
    for name, dataset, value in zip(rows["variant"], rows["dataset"], rows["value"], strict=True):
        result.setdefault(str(name), {})[str(dataset)] = int(value)
    return result


def schedules(published: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """`published_epochs` of each paper."""
    return {paper: published_epochs(published, paper) for paper in ("hcp", "pcl")}


def _columns(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": rows["dataset"],
            "key": rows["key"],
            "attack": rows["attack"],
            "eps": rows["budget"].fillna(0.0),  # clean
            "metric": rows["metric"],
            "published": rows["value"],
            "published_std": rows["std"],
        }
    )


def hcp_published(published: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table `number` of the hcp paper as dataset, key, attack, eps, metric, published, published_std. Table 3 is the noise
    measurement with the authors' stop rule, which the outcomes call noise_batch."""
    table = _columns(published[(published["paper"] == "hcp") & (published["table"] == str(number))]).reset_index(drop=True)
    return table.assign(attack="noise_batch") if number == 3 else table


def pcl_published(published: pd.DataFrame, number: int) -> pd.DataFrame:
    """An accuracy table of the pcl paper, as `hcp_published` with the column `setting`: white-box, adaptive, or `from SOURCE` for
    images made on another model. Table 4 comes with the conventional values, which it repeats from table 3."""
    pcl = published[published["paper"] == "pcl"]
    rows = pcl[pcl["table"] == str(number)]
    transfer = pcl[pcl["table"] == "13"]
    keys = dict(zip(transfer["method"], transfer["key"], strict=True))  # a source as table 13 calls it -> its key
    names = rows["setting"].str.removeprefix("transfer-").str.removeprefix("from-").map(keys)
    setting = rows["setting"].where(names.isna(), "from " + names)
    if number == 13:
        setting = setting.where(rows["setting"] != "white-box", "from " + rows["key"])
    table = _columns(rows).assign(setting=setting.where(rows["attack"] != "clean", "white-box"))
    if number == 4:
        usual = pcl_published(published, 3)
        known = usual["dataset"].isin(table["dataset"]) & usual["key"].isin(table["key"]) & usual["attack"].isin(table["attack"])
        table = pd.concat([table, usual[known & (usual["setting"] == "white-box") & (usual["attack"] != "clean")]])
    return table.reset_index(drop=True)
