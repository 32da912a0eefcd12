"""The MLflow store: one experiment, in it one run a model, with what every stage found out about the model. Anything here may
raise; run.py says what that costs. A record is the content of a record file (see run.py)."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pipeline.tracking.entries import data_input, log_model, model_of
from pipeline.tracking.figures import HEADLINE, description, headline

STORE = "mlflow"  # a folder
PAGE = 1000  # runs that one search returns at most
DEFAULTS = {  # of the environment; the user's own values win
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # an unreachable server costs seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Settings(NamedTuple):
    """The `tracking` block of params.yaml. uri "" is MLFLOW_TRACKING_URI where set, else an sqlite database in mlflow/."""

    enabled: bool
    uri: str
    experiment: str


def store_uri(uri: str) -> str:
    """A tracking URI: as given, as in the environment, or the database of this folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or own_uri()


def own_folder() -> Path:
    """mlflow/ below the current folder; where DVC runs a queued experiment, in a copy of the repository that it then removes,
    that of the repository."""
    here = Path.cwd()
    top = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    repository = Path(os.environ.get("DVC_ROOT", top)).resolve()
    copied = top.is_relative_to(repository / ".dvc/tmp")
    return (repository / here.relative_to(top) if copied else here) / STORE


def own_uri() -> str:
    """The database of this folder. SQLAlchemy takes %20 for a space and ? for the end of the path."""
    return f"sqlite:///{re.sub(r'%(?=[0-9a-fA-F]{2})|[?]', lambda found: quote(found[0]), str(own_folder()))}/mlflow.db"


def import_mlflow() -> None:
    """Takes 1.5 s. Raises ImportError."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 3  # MLflow tries to open a database 10 times, for 100 s
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they warn of is raised too


class Store:
    """The experiment that `settings` names, made where it is not there."""

    def __init__(self, settings: Settings) -> None:
        import_mlflow()
        from filelock import FileLock
        from mlflow.tracking import MlflowClient

        uri = store_uri(settings.uri)
        self.lock: Any = nullcontext()
        if not uri.startswith("http"):  # processes that make a database at the same time break its tables
            own_folder().mkdir(exist_ok=True)
            self.lock = FileLock(own_folder() / "lock", timeout=120)
        with self.lock:
            self.client: Any = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(settings.experiment)
            location = _own_artifacts(settings)
            if found and location:
                _check_place(found.artifact_location, location)
            make = self.client.create_experiment
            self.experiment_id = found.experiment_id if found else str(make(settings.experiment, artifact_location=location))

    def runs(self, where: str = "", *, deleted: bool = False) -> list[Any]:
        """Runs that match MLflow's filter `where`, the newest first; deleted: also those that the user has deleted."""
        from mlflow.entities import ViewType

        view, order = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY, ["attributes.start_time DESC"]
        page = self.client.search_runs([self.experiment_id], where, view, PAGE, order)
        found = list(page)
        while page.token:
            page = self.client.search_runs([self.experiment_id], where, view, PAGE, order, page.token)
            found += page
        return found

    def open_run(self, record: Mapping[str, Any], source: Mapping[str, str], when: int | None = None) -> "StoredRun | None":
        """The run that `record` belongs to, made where it is not there or has other results of the same stage, which it keeps; None
        where one has all of the record. source: tags of a new run; when: ms, for work that was done earlier."""
        with self.lock:
            tag, found = stage_tag(record), self.runs(f"tags.key = '{run_key(record)}'")
            if any(run.data.tags.get(tag) == record["key"] for run in found):
                return None
            free = [run for run in found if tag not in run.data.tags]
            stored = StoredRun(self, record, free[0] if free else self._new_run(record, source, when), when)
            stored.add_params()
            trained = [run for run in found if "key.train" in run.data.tags]
            if trained and "key.train" not in stored.run.data.tags:  # a new run, or one whose copy was broken off
                stored.copy_training(trained[0])
            return stored

    def _new_run(self, record: Mapping[str, Any], source: Mapping[str, str], when: int | None) -> Any:
        note = description(record["params"])
        tags = {**source, **_run_tags(record), **({"mlflow.note.content": note} if note else {})}
        return self.client.create_run(self.experiment_id, when, tags, record["model"])


def _own_artifacts(settings: Settings) -> str | None:
    """Where the database of this folder keeps an experiment's files, as a URI; None for another store, which decides itself."""
    own = store_uri(settings.uri) == own_uri()
    folder = re.sub(r"[^\w-]", "_", settings.experiment)  # MLflow undoes quoting: no .. leads out of it
    return f"{own_folder().as_uri()}/artifacts/{quote(folder)}" if own else None


def _check_place(place: str, own: str) -> None:
    """MLflow keeps absolute paths: files of a folder that was moved would go to where it was, those of a copy into the original."""
    below = f"/{STORE}/artifacts/"
    if place != own and below in place and place.rpartition(below)[2] == own.rpartition(below)[2]:
        raise ValueError(
            f"the store's files are recorded in {place}, as this folder was moved or copied; `mv {STORE} {STORE}.old`, then "
            "`python -m stages.sync` records all runs anew"
        )


class StoredRun:
    """A run that is written. Points that a killed training has left there are not written again."""

    def __init__(self, store: Store, record: Mapping[str, Any], run: Any, when: int | None) -> None:
        self.store, self.client, self.record, self.run, self.when = store, store.client, record, run, when
        self.run_id, self.finished = run.info.run_id, run.info.status == "FINISHED"
        there = run.data.metrics if record["trained"] is None else {}
        self.seen = {(name, point.step) for name in there for point in self.client.get_metric_history(self.run_id, name)}
        if not self.finished and run.info.status != "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")

    def add_params(self) -> None:
        """Those that are not there: MLflow does not let a param be changed."""
        flat = {valid_name(name): str(value)[:6000] for name, value in flatten(self.record["params"]).items()}
        self._add_params({name: value for name, value in flat.items() if name not in self.run.data.params})

    def copy_training(self, other: Any) -> None:
        """Of a run on the same model, all that its training has recorded: what attacks have is named attack.*, or has a slash."""
        from mlflow.entities import LoggedModelOutput, RunTag

        there = {valid_name(name) for name in flatten(self.record["params"])}
        own = {name: value for name, value in other.data.params.items() if name not in there and not name.startswith("attack.")}
        self._add_params(own)
        for name in other.data.metrics:
            if "/" not in name and name not in HEADLINE:
                points = self.client.get_metric_history(other.info.run_id, name)
                self.log([(point.step, {name: point.value}) for point in points])
        if other.inputs and other.inputs.dataset_inputs:
            self.client.log_inputs(self.run_id, other.inputs.dataset_inputs)
        if model := model_of(other):
            self.client.log_outputs(self.run_id, [LoggedModelOutput(model, 0)])
        self.client.log_batch(
            self.run_id, tags=[RunTag("key.train", other.data.tags["key.train"])]
        )  # last: it says that all is there
        self.run = self.client.get_run(self.run_id)

    def _add_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        new = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.run_id, params=new[start : start + 100])

    def log(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """points: step, values by name. A model's headline figures come with what they follow from."""
        from mlflow.entities import Metric

        when, model = self.when or int(time.time() * 1000), model_of(self.run)
        named: list[tuple[str, float, int, str | None]] = []
        named += [(valid_name(name), value, step, None) for step, values in points for name, value in values.items()]
        named += [(name, value, step, model) for step, values in points for name, value in headline(values).items()]
        new = [Metric(name, value, when, step, of) for name, value, step, of in named if (name, step) not in self.seen]
        for start in range(0, len(new), 1000):
            self.client.log_batch(self.run_id, metrics=new[start : start + 1000])

    def artifact(self, path: Path) -> None:
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.run_id, str(path))

    def add_files(self, folder: Path, data_digest: str | None) -> None:
        """Of a training, the data set as an input, by its file's md5, and the model as a logged model, where there are such."""
        if stage_tag(self.record) != "key.train":
            return
        if data_digest:
            self.client.log_inputs(self.run_id, [data_input(self.record["tags"]["dataset"], data_digest, folder)])
        file = Path("models", f"{self.record['model']}.pt")
        if (folder / file).is_file():
            log_model(self.client, self.run, self.record, file)

    def end(self, status: str) -> None:
        """The tag that says that all of the record is there comes last: without it the rest is done again."""
        from mlflow.entities import RunTag

        if not self.finished:  # a training run stays so when an attack fails
            self.client.set_terminated(self.run_id, status, self.when)
        if status != "FINISHED":
            return
        if "experiment" not in self.run.data.tags:
            self._mark_superseded()
        tags = {**_run_tags(self.record), stage_tag(self.record): self.record["key"]}
        self.client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _mark_superseded(self) -> None:
        """Earlier runs of the model name this one; one that is recorded late names the newest. Experiments stand apart."""
        model = self.record["model"]
        quote = '"' if "'" in model else "'"
        others = self.store.runs(f"tags.model = {quote}{model}{quote}")
        others = [run for run in others if run.info.run_id != self.run_id and "experiment" not in run.data.tags]
        newer = [run for run in others if run.info.start_time > self.run.info.start_time and run.info.status == "FINISHED"]
        if newer:
            self.client.set_tag(self.run_id, "superseded_by", newer[0].info.run_id)
        for run in others:
            if run.info.start_time <= self.run.info.start_time and "superseded_by" not in run.data.tags:
                self.client.set_tag(run.info.run_id, "superseded_by", self.run_id)


def run_key(record: Mapping[str, Any]) -> str:
    """The key of the training, which names the run."""
    return str(record["trained"] or record["key"])


def stage_tag(record: Mapping[str, Any]) -> str:
    """A run with this tag has all of the record whose key it is."""
    return f"key.{record['tags'].get('stage', 'train' if record['trained'] is None else 'attack')}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def valid_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ in names of metrics, params and tags, and no empty parts: hcp[gap] -> hcp.gap."""
    parts = (part.strip(".") for part in re.sub(r"[^\w\-./]", ".", name).split("/"))
    return "/".join(part for part in parts if part)[:250]


def _run_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Without the stage: the run has the results of all stages."""
    given = {valid_name(name): str(value)[:5000] for name, value in record["tags"].items() if name != "stage"}
    return {**given, "model": record["model"], "key": run_key(record)}
