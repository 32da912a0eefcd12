"""docs/params.md says what params.yaml can say."""

import re
from typing import Any

import pytest
from conftest import ROOT

from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import merged, plain
from pipeline.params.reference import reference
from pipeline.params.schema import load_params

PAGE = (ROOT / "docs/params.md").read_text(encoding="utf-8")


def test_the_page_is_what_is_written_now() -> None:
    assert reference(load_params(ROOT / "params.yaml", LOOKUPS), LOOKUPS) == PAGE, "python -m stages.reference writes it anew"


def paths(tree: Any, path: str = "") -> list[str]:
    """Of every single value and list of a merged params.yaml."""
    if not isinstance(tree, dict):
        return [path]
    return [one for key, value in tree.items() for one in paths(value, f"{path}.{key}".strip("."))]


def test_every_value_of_params_yaml_has_a_row_or_is_an_option_of_a_name() -> None:
    patterns = [re.escape(path).replace("<name>", "[a-z0-9_]+") for path in re.findall(r"^\| `([^`]+)` \| ", PAGE, re.MULTILINE)]
    choices = [
        re.escape(path).replace("<name>", "[a-z0-9_]+") for path in re.findall(r"^\| `(.+)` \| `name` and options", PAGE, re.M)
    ]
    row = re.compile("|".join([*patterns, *(rf"{path}\.[a-z0-9_]+" for path in choices)]))
    assert [path for path in paths(plain(merged(ROOT / "params.yaml"))) if not row.fullmatch(path)] == []


@pytest.mark.parametrize(
    "row",  # read off the schema, the functions and params.yaml by hand
    [
        "| `run.seeds` | list of 1 or more (integer at least 0 and below 4294967296) | `[0]` |  |",
        "| `datasets.<name>.validation.fraction` | number above 0 and below 1 | `0.1` |  |",
        "| `datasets.<name>.training.adversary_eps.<name>` | list of 2 (number at least 0 and at most 1) |  |  |",
        "| `compute.precision` | `fp32` or `bf16` | `fp32` | of training |",
        "| `resnet110` | `blocks`: integer at least 1; `branch`: integer at least 1; `penultimate`: integer at least 1 | ",
        "| `fgsm` | none | Fast gradient sign method (Goodfellow et al., arXiv:1412.6572); pcl eq. 16. ",
        "| `center` | `weight`: number above 0; `centre_init`: `uniform` or `normal` | ",
        "| `torchvision` | `dataset`: `CIFAR10` or `CIFAR100` or `SVHN` or `MNIST` or `FashionMNIST`; `folder`: text | ",
    ],
)
def test_rows_that_were_read_off_by_hand(row: str) -> None:
    assert f"\n{row}" in PAGE
