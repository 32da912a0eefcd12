"""What is tried: the stages with what they write, and the files that each of them reads."""

from typing import NamedTuple


class Case(NamedTuple):
    """One fault and what became of it. one_line: one error line and no traceback, None where none is asked for; identical: the
    results of the run after it; note: what went wrong; seconds: with that run; kills: how many there were."""

    kind: str
    what: str
    one_line: bool | None
    identical: bool
    note: str
    seconds: float
    kills: int = 0


class Stage(NamedTuple):
    """arguments: of python -m; writes: folders and files; reads: a file of each kind that it reads."""

    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join(self.arguments).removeprefix("stages.")


HCP = "digits/hcp/0"
STAGES = [
    Stage(("stages.data", "digits"), ("data/digits.npz", "metrics/data"), ("data/items/digits/data.yaml",)),
    Stage(
        ("stages.train", "digits", "softmax", "0"),
        ("models/digits/softmax",),
        ("data/items/digits/train/softmax.yaml", "data/digits.npz"),
    ),
    Stage(("stages.train", "digits", "hcp", "0"), ("models/digits/hcp",), ("models/digits/softmax/0.pt", "data/digits.npz")),
    Stage(
        ("stages.attack", "digits", "hcp", "0"),
        (f"data/attacks/{HCP}", f"data/verdict/{HCP}"),
        ("data/items/digits/attack/hcp.yaml", "data/digits.npz", f"models/{HCP}.pt", "models/digits/softmax/0.pt"),
    ),
    Stage(("stages.transfer", "digits", "0"), ("data/transfer/digits",), ("models/digits/vgg/0.pt", "models/digits/center/0.pt")),
    Stage(("stages.planes", "digits"), ("data/planes/digits",), ("data/items/digits/planes.yaml", "data/digits.npz")),
    Stage(("stages.cost", "digits"), ("data/cost",), ("data/items/digits/cost.yaml", "data/digits.npz")),
    Stage(
        ("stages.tables",),
        ("metrics/tables", "metrics/summary.json", "data/report"),
        (
            "data/items/tables.yaml",
            *(f"data/attacks/{HCP}/{name}" for name in ("outcomes.parquet", "run.json")),
            *(f"data/verdict/{HCP}/{name}" for name in ("outcomes.parquet", "prototypes.parquet", "checks.json", "examples.npz")),
            *(f"data/transfer/digits/0.{suffix}" for suffix in ("csv", "parquet")),
            "data/cost/digits.csv",
        ),
    ),
    Stage(
        ("stages.figures",),
        ("metrics/figures",),
        (
            "data/items/figures.yaml",
            f"data/attacks/{HCP}/features.npz",
            "data/planes/digits/hcp.npz",
            "metrics/tables/pcl_figure7.csv",
        ),
    ),
    Stage(
        ("stages.cards",),
        ("metrics/cards",),
        ("data/items/cards.yaml", f"data/verdict/{HCP}/examples.npz", f"data/attacks/{HCP}/features.npz", "data/report/curves.csv"),
    ),
    Stage(
        ("stages.report",),
        ("metrics/report.md", "metrics/report.html"),
        ("data/items/report.yaml", "data/report/masking.csv", "metrics/tables/hcp.md", "metrics/figures/hcp_figure3.png"),
    ),
]
