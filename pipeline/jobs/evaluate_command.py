"""`python -m stages.evaluate`, and the console command of an installed package: its arguments, and what it does with them."""

import argparse
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.jobs.evaluate import IMAGES, Evaluation, Settings, check_settings, identity_of, judged, on_device
from pipeline.jobs.given import load_given
from pipeline.jobs.given_data import read_images
from pipeline.jobs.threat import threat_of
from pipeline.params.loader import Loader
from pipeline.runtime.device import set_up_device
from pipeline.runtime.distributed import is_main
from pipeline.runtime.files import atomic_path
from pipeline.tracking.run import track
from pipeline.tracking.store import Settings as Tracking

UNFINISHED = ".unfinished"  # in a verdict's folder, a folder for each thing that is being judged
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "model": {
        "--model": {"help": "path/to/file.py:function, package.module:function (torchvision.models:resnet18), or a network of this "
                    "project (small_cnn, conv6, resnet110, resnet101, vgg19, pcl_release); not needed for a model file of it"},
        "--options": {"nargs": "+", "metavar": "NAME=VALUE", "default": [], "help": "keyword arguments of the function"},
        "--weights": {"metavar": "FILE", "help": ".pt, .pth, .pth.tar or .safetensors; read without running code"},
        "--mean": {"nargs": "+", "type": float, "help": "where the model expects normalised images, by channel"},
        "--std": {"nargs": "+", "type": float, "help": "the same"},
        "--features": {"metavar": "LAYERS", "default": "", "help": "comma-separated submodules whose outputs the attacks on "
                       "features use"},
        "--name": {"help": "what the report calls it; default: made from --model and --weights"},
    },
    "data": {
        "--data": {"required": True, "help": "a data set of params.yaml (digits, cifar10, ...), a source, an .npz with images "
                   "and labels, or a folder with train/CLASS/* and test/CLASS/*"},
        "--data-options": {"nargs": "+", "metavar": "NAME=VALUE", "default": [], "help": "as form=parquet folder=..."},
        "--images": {"default": str(IMAGES), "help": "how many test images, or all; default: %(default)s"},
    },
    "attacks": {
        "--norm": {"default": "linf", "choices": ["linf", "l2"]},
        "--eps": {"required": True, "help": "of pixels in [0, 1], as 0.03 or 8/255"},
        "--autoattack": {"default": "standard", "help": "a version in params.yaml: standard or rapid; default: %(default)s"},
        "--seed": {"type": int, "default": 0},
        "--params": {"metavar": "FILE", "help": "a params.yaml with data sets and attacks; default: that of this project"},
        "--force": {"action": "store_true", "help": "continue although the checks say that model or images are not as intended"},
    },
    "run": {
        "--out": {"metavar": "FOLDER", "help": "default: judged/NAME-DATA-NORM-EPS, with what else is not as usual, "
                  "and a number where that has another verdict"},
        "--device": {"default": "auto", "choices": ["auto", "cpu", "cuda"]},
        "--precision": {"default": "fp32", "choices": ["fp32", "bf16"], "help": "of attacks; what they break is checked in fp32"},
        "--threads": {"type": int, "default": 0, "help": "on the CPU; 0: as many as there are cores"},
        "--batch-size": {"type": int, "default": 128, "help": "images that go through the model at a time"},
        "--no-tracking": {"action": "store_true", "help": "no MLflow run, also where MLflow is installed"},
    },
}  # fmt: skip


def arguments(description: str | None, given: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    prog = "judge-defence" if Path(sys.argv[0]).name == "judge-defence" else "python -m stages.evaluate"
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag, about in options.items():
            group.add_argument(flag, **about)
    return parser.parse_args(given)


def evaluate_command(args: argparse.Namespace, report: Callable[[Path], str]) -> str:
    """Judges the model and writes outcomes.parquet, checks.json, examples.npz and features.npz into the folder --out, then what
    `report` makes of these. Returns what `report` says. Killed, it goes on after the last attack that was done. Raises ValueError
    in one line for whatever is wrong with model, weights, data or settings."""
    threat = threat_of(args.norm, args.eps, args.autoattack, args.params)
    images = None if args.images == "all" else _whole(args.images, "--images")
    settings = Settings(threat, images, args.seed, args.precision, args.batch_size, args.force)
    check_settings(settings, args.device, args.threads)
    device = set_up_device(args.device, args.threads)
    data = read_images(args.data, _options(args.data_options, "--data-options"), threat.params)
    if images is not None and images > len(data.test.images):
        settings = settings._replace(images=None)
    classes = len(data.classes) if data.classes is not None else int(data.test.labels.max()) + 1
    loaded = load_given(
        args.model,
        _options(args.options, "--options"),
        args.weights,
        on_device(data.test.images[:2], device),
        classes=classes,
        mean=args.mean,
        std=args.std,
        features=[name for name in args.features.split(",") if name],
    )
    name = args.name or _name(args.model, args.weights)
    identity = identity_of(loaded, data, settings)
    told = {"name": name, "data": args.data, "data_options": args.data_options, "identity": identity}
    loaded = loaded._replace(about=told | loaded.about)
    usual = _plain("-".join([name, Path(args.data).stem, f"{args.norm}-{threat.eps:.4g}", *_other(args)]))
    out = Path(args.out) if args.out else _free_place(Path("judged", usual), identity)
    if _verdict_on(out) not in (None, identity):
        raise ValueError(f"{out} has a verdict on something else, or by other attacks: name another --out, or remove it")
    print(f"{name} on {args.data}; what is done is kept in {out}", flush=True)
    found = judged(loaded, data, settings, device, out / UNFINISHED / identity)
    return _finish(out, found, report, tracking=not args.no_tracking) if is_main() else ""


def _finish(out: Path, found: Evaluation, report: Callable[[Path], str], *, tracking: bool) -> str:
    about = found.about
    there = importlib.util.find_spec("mlflow") is not None
    store = Tracking(enabled=tracking and there, uri="", experiment="judged")
    with track(
        store,
        model=f"judged/{about['name']}/{Path(about['data']).stem}",
        key=about["key"],
        params=about,
        tags={"dataset": Path(about["data"]).stem, "method": about["name"], "stage": "evaluate"},
        record=out / "run.json",
    ) as run:
        write(out, found)
        said = report(out)
        run.log(found.accuracy | {f"check/{name}": value for name, value in found.checks.items()})
        for name in ("report.html", "checks.json"):
            run.artifact(out / name)
    shutil.rmtree(out / UNFINISHED / about["identity"], ignore_errors=True)
    with suppress(OSError):  # another run is at work there
        (out / UNFINISHED).rmdir()
    return said


def write(out: Path, found: Evaluation) -> None:
    """The files of an evaluation."""
    for name, arrays in {"examples.npz": found.examples, "features.npz": found.features}.items():
        with atomic_path(out / name) as path:
            np.savez(path, **dict[str, Any](arrays))
    with atomic_path(out / "outcomes.parquet") as path:
        found.outcomes.to_parquet(path, index=False)
    content = {"about": found.about, "findings": [finding._asdict() for finding in found.findings]}
    content |= {"accuracy": found.accuracy, "masking": found.checks}
    with atomic_path(out / "checks.json") as path:
        path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _free_place(usual: Path, identity: str) -> Path:
    """`usual`, or with a number behind where that has, or is being given, the verdict on something else."""
    others = (usual.with_name(f"{usual.name}-{number}") for number in count(2))
    return next(
        place
        for place in chain([usual], others)
        if {path.name for path in (place / UNFINISHED).glob("*")} <= {identity} and _verdict_on(place) in (None, identity)
    )


def _verdict_on(place: Path) -> str | None:
    """The identity of what the verdict there is on, None where there is none."""
    try:
        return str(json.loads((place / "checks.json").read_text())["about"].get("identity"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or no whole one
        return None


def _other(args: argparse.Namespace) -> list[str]:
    """What is not as usual, so that two verdicts on a model do not take each other's place."""
    texts = {"autoattack": args.autoattack, "images": f"{args.images}-images", "seed": f"seed-{args.seed}"}
    usual = {flag.removeprefix("--"): about.get("default") for group in GROUPS.values() for flag, about in group.items()}
    return [text for name, text in texts.items() if getattr(args, name) != usual[name]]


def _options(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """NAME=VALUE, values as in params.yaml: numbers, also 8/255, true, null, lists."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{flag}: options are written NAME=VALUE, got {pair!r}")
        try:
            found[name] = yaml.load(value, Loader)  # a safe one
        except (yaml.YAMLError, ValueError, ZeroDivisionError):
            raise ValueError(f"{flag}: {pair!r} has no value that YAML can read") from None
    return found


def _whole(text: str, flag: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{flag} must be a whole number from 1 on{' or all' if flag == '--images' else ''}, got {text!r}")
    return int(text)


def _name(model: str | None, weights: str | None) -> str:
    """resnet18-best for torchvision.models:resnet18 with best.pt; the last folders of a model file of ours."""
    if model is None:
        return "-".join(Path(str(weights)).with_suffix("").parts[-2:])
    return "-".join([model.rpartition(":")[2], *([Path(weights).name.partition(".")[0]] if weights else [])])


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
