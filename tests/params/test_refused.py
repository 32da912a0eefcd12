"""Params that look right and are not, and what everybody writes: each by what is said about it or by its value."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from pipeline.params.choices import NetworkChoice, SourceChoice
from pipeline.params.items import TrainItem, read_item
from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import ParamsError, merged, plain, read_tracking
from pipeline.params.resolve import all_items, write_items
from pipeline.params.schema import Params, load_params
from pipeline.params.sizes import BYTES, PUBLIC, Known, known_sizes, training_memory

Edit = Callable[[dict[str, Any]], object]
TEXT = (ROOT / "params.yaml").read_text()


def load(tmp_path: Path, edit: Edit) -> Params:
    raw = yaml.safe_load(TEXT)
    edit(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(raw)), allow_unicode=True))
    return load_params(path, LOOKUPS)


def digits(raw: dict[str, Any]) -> Any:
    return raw["datasets"]["digits"]


def attack(name: str) -> Edit:
    return lambda p: (p["attacks"].update({name: dict(p["attacks"]["pgd"])}), p["run"]["attacks"].append(name))


def label(text: object) -> Edit:
    return lambda p: p["methods"]["hcp"].update(label=text)


def main(**options: object) -> Edit:
    return lambda p: digits(p)["networks"]["main"].update(options)


def data_set(name: str) -> Edit:
    return lambda p: (p["datasets"].update({name: p["datasets"]["digits"]}), p["run"].update(datasets=[name]))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        *(
            (attack(name), f"attacks.{name}: this name is reserved")
            for name in ("adaptive_pgd", "noise_mine", "autoattack_x", "dlr")
        ),
        (
            lambda p: p["attacks"].update(fgsm=p["attacks"]["pgd"]),
            "attacks.fgsm: must be the attack fgsm, whose row stands beside the papers', got 'pgd'",
        ),
        (lambda p: digits(p)["evaluation"]["linf"].update(eps=[0.15, 0.031373, 8 / 255]), "linf.eps: has duplicates"),
        (
            lambda p: digits(p)["evaluation"]["linf"].update(sweep=[0.1500004]),
            "linf.sweep: has [0.1500004], which linf.eps has too",
        ),
        (
            lambda p: digits(p)["evaluation"]["l2"].update(c=[0.1, 1e-7, 2e-7]),
            "l2.c: has duplicates: numbers must differ by",
        ),
        (
            lambda p: digits(p)["training"]["augment"].update(pad=8),
            "augment.pad: must be less than the 8 pixels of an image, got 8",
        ),
        (lambda p: digits(p)["training"].update(batch_size=1), "training.batch_size: Input should be greater than or equal to 2"),
        (
            lambda p: digits(p)["training"]["adversary_eps"].update(drawn=[0.0, 0.0]),
            "adversary_eps.drawn: the upper end must be above 0, got [0.0, 0.0]",
        ),
        (
            lambda p: p["methods"]["adp"].update(ensemble=10),
            "methods.adp.ensemble: loss adp takes at most 9 networks on 10 classes",
        ),
        (lambda p: digits(p)["source"].update(test_fraction="a"), "datasets.digits.source.test_fraction: "),
        (lambda p: digits(p)["source"].pop("test_fraction"), "datasets.digits.source.test_fraction: is missing"),
        (lambda p: p["compute"].update(threads=10**6), "compute.threads: Input should be less than or equal to 1024"),
        (main(penultimate=10**9), "datasets.digits.networks.main: 3 of it take more than 3.59e+03 GiB of memory in training"),
        (main(widths=[10**9] * 4), "datasets.digits.networks.main: 3 of it take more than"),
        (lambda p: p["methods"]["adp"].update(ensemble=10**6), "datasets.digits.networks.main: 1000000 of it take more than"),
        *(
            (label(text), "methods.hcp.label: must be one line of 1 to 100 visible")
            for text in ("", " ", "a\nb", "a\rb", " a", "a\tb")
        ),
        *(
            (label(text), "methods.hcp.label: must be one line of 1")
            for text in ("a\u2028b", "\u202ea", "a\x07", "x" * 101, "_a", "a|b")
        ),
        (label(None), "methods.hcp.label: Input should be a valid string (got None)"),
        (label("method"), "methods.hcp.label: 'method' is the heading of a column"),
        *((lambda p, r=r: p.update(root=r), "root: String should match") for r in ("", "a b", "$(touch x)", "x;y", "a'b", "..\n")),
        *((data_set(name), "run.datasets.0: String should match") for name in ("a;b", "$(x)", "-x", "..", "_x", "a\n", "x" * 65)),
        *(
            (lambda p, s=s: p["run"].update(seeds=[s]), "run.seeds.0: Input should be")
            for s in ("0; touch x", True, -1, 2**32, 1.0)
        ),
        (lambda p: digits(p)["source"].update(seed=2**32), "datasets.digits.source.seed: must be less than 4294967296"),
        (lambda p: p["tracking"].update(experiment="a\nb"), "tracking.experiment: must be one line"),
        (lambda p: p["methods"]["at"].update(base=["finetune"]), "methods.at.base: unknown ['finetune'], choose from"),
        (lambda p: p["methods"]["at"].update(base={"a": 1}), "methods.at.base: unknown {'a': 1}, choose from"),
        (lambda p: p["methods"].update(finetune=5), "methods.at.base: unknown 'finetune', choose from"),
        (lambda p: digits(p)["training"]["optimizers"].update(default=5), "optimizers.input_gradient.base: unknown 'default'"),
        (lambda p: p.update(extends={"a": 1}), "extends: must be the name of a file, got {'a': 1}"),
        (lambda p: p.update(extends="a\0b"), r"extends: must be the name of a file, got 'a\x00b'"),
    ],
)
def test_what_would_go_wrong_later_is_refused(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(ParamsError) as error:
        load(tmp_path, edit)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "edit",
    [
        *map(label, ("None", "NA", "007", "<script>", "![x](/a.png)", "$x$", "*b* `c` [d](e)", "a&lt;b", "名前")),
        lambda p: p["methods"]["adp"].update(ensemble=9),
        lambda p: digits(p)["training"]["augment"].update(pad=7),
        lambda p: digits(p)["training"]["adversary_eps"].update(drawn=[0.0, 0.1]),
        lambda p: digits(p)["evaluation"]["linf"].update(eps=[0.15, 0.15001]),
        lambda p: p.update(root="../.."),
    ],
)
def test_what_only_looks_odd_is_taken(tmp_path: Path, edit: Edit) -> None:
    all_items(load(tmp_path, edit))


@pytest.mark.parametrize("lookups", [None, LOOKUPS])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1e-05", 1e-5),
        ("8/255", 8 / 255),
        ("8./255.0", 8 / 255),
        ("8 / 255", 8 / 255),
        ("+1.e-3", 1e-3),
        ("1e3", 1e3),
    ],
)
def test_numbers_as_everybody_writes_them_are_numbers_everywhere(tmp_path: Path, text: str, value: float, lookups: Any) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        TEXT.replace("learning_rate: 0.05\n", f"learning_rate: {text}\n").replace("      lr: 0.05\n", f"      lr: {text}\n")
    )
    params = load_params(path, lookups)
    assert params.attacks["cw"].options["learning_rate"] == value
    assert params.datasets["digits"].training.optimizers["default"].lr == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((f"a: {number}", "line 1: ") for number in ("010", "-010", "00", "08", "0_1", "1:30", "1:30.5", "[1, 010]")),
        ("a:\n  b: 1\n  b: 2", "line 3: b is there twice"),
        ("a: {b: 1, b: 2}", "line 1: b is there twice"),
        ("a: [{b: 1, b: 2}]", "line 1: b is there twice"),
        ("1: a\n'1': b", "line 2: 1 is there twice"),
        ("a: [&x 1, *x]", "line 1: anchors"),
        ("a: " + "1" * 5000, "is not a number or another value"),
        ("a: 9007199254740993", "is too large, whole numbers go up to 9007199254740992"),
        ("a: 1/0", "1/0 is not a number or another value"),
        ("a: 2024-01-01", "values of the kind timestamp are not used here; put text into quotes"),
        ("a: !!python/object/apply:os.system ['true']", "are not used here"),
        ("a: !!int x", "x is not a number"),
        ("a: !!bool x", "x is not a number"),
        ("? [a]\n: 1", "a name must be text"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    ],
)
def test_yaml_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        merged(tmp_path / "params.yaml")
    assert said in str(error.value)


def test_text_in_quotes_stays_text_and_names_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: '010'\nyes: \"1:30\"\n010: '8/255'\nnull: [0x1F, 0, 0.5, true, null]")
    assert plain(merged(tmp_path / "params.yaml")) == {"a": "010", "yes": "1:30", "010": "8/255", "null": [31, 0, 0.5, True, None]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "tracking: is missing"),
        ("tracking: {enabled: 1, uri: '', experiment: a}", "tracking.enabled: Input should be a valid boolean"),
        ("tracking: {enabled: true, uri: '', experiment: a, x: 1}", "tracking.x: is not a parameter here"),
        ("tracking: 5", "tracking: Input should be"),
    ],
)
def test_a_wrong_tracking_block_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        read_tracking(tmp_path / "params.yaml")
    assert said in str(error.value)


@pytest.mark.parametrize("root", ["$(touch made)", "`touch made`", "a; touch made;", "a b", 'a"; touch made; "'])
def test_the_stage_that_checks_root_does_not_run_it(root: str, tmp_path: Path) -> None:
    """The shell has root before params.yaml is checked; every other stage comes after that one."""
    command = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["items"]["cmd"]
    shown = command.replace("${root}", root).replace("python -m stages.items", "printenv PYTHONPATH")
    assert subprocess.check_output(["bash", "-c", shown], cwd=tmp_path, text=True) == f"{root}\n"
    assert list(tmp_path.iterdir()) == []


def test_memory_is_that_of_the_weights_their_gradients_and_momentum() -> None:
    choice = NetworkChoice(name="conv6", penultimate=64)
    assert training_memory(choice, LOOKUPS["networks"]["conv6"], PUBLIC["mnist"]) == 894_826 * BYTES  # its docstring's count
    pretrained = NetworkChoice(name="resnet101", weights="imagenet", branch=512, penultimate=1024)
    assert training_memory(pretrained, LOOKUPS["networks"]["resnet101"], PUBLIC["cifar10"]) == 45_133_386 * BYTES  # no download


def test_sizes_of_the_sets_that_everybody_knows() -> None:
    assert known_sizes(SourceChoice(name="public_set", dataset="cifar100")) == Known(32, 3, 100, 50_000, 10_000)
    assert known_sizes(SourceChoice(name="torchvision", dataset="FashionMNIST")) == Known(28, 1, 10, 60_000, 10_000)
    assert known_sizes(SourceChoice(name="public_set", dataset=["mnist"])) is None
    assert known_sizes(SourceChoice(name="image_folder", train="a")) is None


VALUES = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**9, 2**53, 10**30, -0.0, 0.5, 1.0, 1e-9, 1e308, -1e-3, float("inf"), float("nan")),
    *("", " ", "a", "hcp", "softmax", "pgd", "all", "1e-3", "8/255", "010", "None", "\0", "\n", "$(x)", "../..", "名", "x" * 300),
    *([], {}, [[]], [{}], {"": 1}, {"name": "pgd"}, {"base": "hcp"}, [1, 1], ["a", "a"], [0.1, 0.1 + 1e-9], {"a": {"b": [None]}}),
)


def places(tree: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value, of mappings and lists too."""
    inside = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [way] * bool(way) + [place for key, value in inside for place in places(value, (*way, key))]


def change(raw: dict[str, Any], draw: random.Random) -> None:
    """Sets, removes, renames or doubles one value somewhere."""
    *way, key = draw.choice(places(raw))
    parent: Any = raw
    for part in way:
        parent = parent[part]
    kind = draw.choice(("set", "set", "set", "remove", "rename", "copy"))
    if kind == "remove":
        del parent[key]
    elif kind == "rename" and isinstance(parent, dict):
        parent[str(draw.choice(VALUES))] = parent.pop(key)
    elif kind == "copy":
        *other, last = draw.choice(places(raw))
        source: Any = raw
        for part in other:
            source = source[part]
        parent[key] = json.loads(json.dumps(source[last]))
    else:
        parent[key] = draw.choice(VALUES)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_changed_is_refused_in_clear_lines_or_becomes_items(seed: int, tmp_path: Path) -> None:
    """Values that nobody thought of: up to three changes anywhere in the file, the same for each seed."""
    draw = random.Random(seed)
    path, raw = tmp_path / "params.yaml", yaml.load(TEXT, yaml.CSafeLoader)
    for _ in range(draw.randint(1, 3)):
        change(raw, draw)
    dumped = yaml.dump(json.loads(json.dumps(raw)), Dumper=yaml.CSafeDumper, allow_unicode=draw.random() < 0.5)
    path.write_text(dumped)
    for lookups in (LOOKUPS, None):
        try:
            params = load_params(path, lookups)
            if lookups:
                all_items(params)
        except ParamsError as error:
            lines = str(error).splitlines()
            assert all(line.isprintable() and len(line) < 1000 for line in lines) or "is not valid YAML" in lines[0]


@pytest.mark.parametrize("change", ["bit", "cut", "no list"])
def test_an_item_file_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A bit turns a digit of a value into another: a file that is read as well, of another item."""
    monkeypatch.chdir(tmp_path)
    write_items(load_params(ROOT / "params.yaml", LOOKUPS))
    path = Path("data/items/digits/train/softmax.yaml")
    text, sums = path.read_text(), Path("data/items/sha256sums")
    done = subprocess.run(["sha256sum", "--check", "--quiet", sums.name], cwd=sums.parent, check=False)  # another program
    assert done.returncode == 0
    assert read_item(TrainItem, "digits", "train", "softmax").recipe.epochs == 10
    if change == "no list":
        sums.unlink()
    else:
        path.write_text(text.replace("epochs: 10", "epochs: 11") if change == "bit" else text[: len(text) // 2])
    with pytest.raises(ParamsError, match=r"softmax\.yaml is damaged or changed .* run `dvc repro -f items`"):
        read_item(TrainItem, "digits", "train", "softmax")
