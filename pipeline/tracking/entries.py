"""A run's data set and model as MLflow lists them. Both only point to a file: nothing is copied, and no code is stored with it."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DATA = re.compile(r"data/[^/]+\.npz")


def md5(path: Path) -> str:
    """As in dvc.lock."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def data_digests(folder: Path) -> dict[str, str]:
    """By record file, models/<set>/<method>/<seed>.json, the md5 of the data set that it was trained on, as DVC knows it."""
    try:
        stages = yaml.load((folder / "dvc.lock").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))[
            "stages"
        ]
        return {
            out["path"]: dep["md5"]
            for stage in stages.values()
            for dep in stage.get("deps", ())
            if DATA.fullmatch(dep["path"])
            for out in stage.get("outs", ())
            if out["path"].startswith("models/")
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}  # no DVC here


def data_input(name: str, digest: str, folder: Path) -> Any:
    """The data set `name` as an input of a run. digest: md5 of data/<name>.npz, of which the first 8 digits are shown."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = folder / "metrics/data" / f"{name}.json"
    images = json.loads(about.read_text(encoding="utf-8")).get("images", {}) if about.is_file() else {}
    source = json.dumps({"uri": f"data/{name}.npz", "md5": digest})
    dataset = Dataset(name, digest[:8], "local", source, profile=json.dumps({f"{split} images": n for split, n in images.items()}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def log_model(client: Any, run: Any, record: Mapping[str, Any], file: Path) -> None:
    """The model of a training as a logged model of its run, made where there is none. file: seen from the folder of params.yaml."""
    from mlflow.entities import LoggedModelOutput

    if model_of(run) is None:
        name = re.sub(r"[^\w-]", "-", record["model"])
        tags = {"model": record["model"], "file": file.as_posix(), "key": record["key"], "mlflow.model.isExternal": "true"}
        made = client.create_logged_model(
            run.info.experiment_id, name, run.info.run_id, tags, model_type=record["tags"].get("method")
        )
        client.finalize_logged_model(made.model_id, "READY")
        client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, 0)])


def model_of(run: Any) -> str | None:
    """The id of the run's logged model."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return outputs[0].model_id if outputs else None
