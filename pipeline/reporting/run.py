"""The run that is reported, as its item files describe it (data/items/tables.yaml and so on)."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.runtime.sums import read_whole


class Kind(NamedTuple):
    """What a method is. features: a loss or classifiers on feature layers; adversarial: trained on adversarial examples; other:
    another defence. An undefended model is none of these."""

    features: bool
    adversarial: bool
    other: bool


class Method(NamedTuple):
    """papers: in whose tables it has a row; published: key of published.csv that it is measured beside."""

    label: str
    papers: list[str]
    published: str | None
    kind: Kind


class Source(NamedTuple):
    """A model that only makes transfer images. published: as of a method."""

    label: str
    published: str | None


class Dataset(NamedTuple):
    """eps, c: measured, of l-inf attacks and of C&W; sweep: further eps, of some methods; table_eps, table_c: of tables with one
    strength where the paper's table lacks the data set; headline_eps: of the verdict; epochs: by name of the schedule; network: in
    words."""

    eps: list[float]
    sweep: list[float]
    c: list[float]
    table_eps: float
    table_c: float
    headline_eps: float
    epochs: dict[str, int]
    network: str = ""
    norm: str = "linf"  # in which headline_eps is


class Run(NamedTuple):
    """root: the folder of the repository, seen from that of params.yaml; sources: models that only make transfer images, by name;
    transfer: models whose images are shown to the others; noise_stop: stop rules of the noise measurement; cw: options of C&W;
    autoattack: which version; parts: of it, which attack each is; compare: published keys in the Friedman test; planes, cost:
    methods that were drawn and timed; lacks: what the run leaves out."""

    root: str
    seeds: list[int]
    datasets: dict[str, Dataset]
    methods: dict[str, Method]
    sources: dict[str, Source]
    transfer: list[str]
    noise_stop: list[str]
    cw: dict[str, float]
    autoattack: str
    parts: dict[str, str]
    alpha: float
    compare: list[str]
    planes: list[str]
    cost: list[str]
    lacks: list[str]

    @property
    def labels(self) -> dict[str, str]:
        """By method."""
        return {name: method.label for name, method in self.methods.items()}


def read_run(path: Path) -> Run:
    if not path.is_file():
        raise ValueError(f"there is no {path}; run `dvc repro items`")
    try:
        text = read_whole(path, path.parent)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or changed ({error}); run `dvc repro -f items`") from error
    return run_from(yaml.safe_load(text))


def run_from(item: dict[str, Any]) -> Run:
    """item: what is in the file."""
    datasets = {name: Dataset(**own) for name, own in item["datasets"].items()}
    methods = {
        name: Method(own["label"], own["papers"], own["published"], Kind(**own["kind"])) for name, own in item["methods"].items()
    }
    plain = ("root", "seeds", "transfer", "noise_stop", "cw", "planes", "cost", "lacks")
    return Run(
        **{name: item[name] for name in plain},
        datasets=datasets,
        methods=methods,
        sources={name: Source(**own) for name, own in item["sources"].items()},
        autoattack=item["autoattack"]["version"],
        parts=item["autoattack"]["parts"],
        alpha=item["statistics"]["alpha"],
        compare=item["statistics"]["compare"],
    )
