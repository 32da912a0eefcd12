"""What the report says of each model, in the model's run: figures, status, its card."""

import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.reporting.run import Run, read_run
from pipeline.runtime.files import content_key
from pipeline.tracking.entries import model_of
from pipeline.tracking.run import open_store, store_errors, sync
from pipeline.tracking.store import Settings, Store
from pipeline.tracking.view import save_view

NEAR = 0.006  # figures of summary.json are rounded to two decimals
Key = tuple[str, str, int]  # data set, method, seed


class Result(NamedTuple):
    """Of one model. figures: accuracy in %; card: its part of the report, in Markdown."""

    figures: dict[str, float]
    tags: dict[str, str]
    picture: Path
    card: str


def sync_all(settings: Settings, folder: Path) -> int:
    """The view, the runs that the store lacks, then what the report says of them. Returns how many record files were recorded.
    Raises ValueError when the store fails."""
    if not settings.enabled:
        return 0
    store = open_store(settings)
    with store_errors():
        save_view(store)
    recorded = sync(settings, folder)
    if reported := record_report(store, folder):
        print(f"recorded in MLflow: what the report says of {reported} models", flush=True)
    return recorded


def record_report(store: Store, folder: Path) -> int:
    """Into how many runs something went. Where there is no report yet, or it is of other results, none; the user is told of the
    latter. Raises ValueError when the store fails."""
    metrics = folder / "metrics"
    files = [metrics / name for name in ("summary.json", "tables/verdict_status.csv", "report.md")]
    if not all(file.is_file() for file in files):
        return 0
    key = content_key([*files, *sorted((metrics / "cards").glob("*/*.png"))])
    with store_errors():
        every = store.runs()
    runs = {(run.data.tags.get("key"), run.data.tags.get("key.attack")): run for run in reversed(every)}
    try:
        found = {model: runs[keys] for model in _models(folder) if (keys := _keys(folder, model)) in runs}
        old = [model for model, run in found.items() if run.data.tags.get("key.report") != key]
        results = read_results(folder) if old else {}  # which takes a while
    except (ValueError, KeyError, OSError) as error:
        print(f"not in MLflow yet: what the report says ({' '.join(str(error).split())[:200]})", file=sys.stderr, flush=True)
        return 0
    with store_errors():
        for model in old:
            _record(store.client, found[model], results[model], key)
        _mark_current(store.client, every, {run.data.tags["model"]: run.info.run_id for run in found.values()})
    return len(old)


def _mark_current(client: Any, runs: Sequence[Any], current: Mapping[str, str]) -> None:
    """current: the id of the reported run by model, which after a return to earlier params is not the last. Experiments stand
    apart, and a model that has not been attacked yet."""
    for run in runs:
        now, marked = current.get(run.data.tags.get("model", "")), "superseded_by" in run.data.tags
        if now is None or "experiment" in run.data.tags or "key.attack" not in run.data.tags:
            continue
        if run.info.run_id != now and not marked:
            client.set_tag(run.info.run_id, "superseded_by", now)
        elif run.info.run_id == now and marked:
            client.delete_tag(now, "superseded_by")


def read_results(folder: Path) -> dict[Key, Result]:
    """Raises ValueError where metrics/ does not follow from data/."""
    import pandas as pd

    run, metrics = read_run(folder / "data/items/report.yaml"), folder / "metrics"
    text = (metrics / "summary.json").read_text(encoding="utf-8")
    summary, report = json.loads(text), (metrics / "report.md").read_text(encoding="utf-8")
    status = pd.read_csv(metrics / "tables/verdict_status.csv", dtype=str, keep_default_na=False).set_index(["dataset", "method"])
    figures = {seed: figures_of_seed(run, folder / "data", seed) for seed in run.seeds}
    results: dict[Key, Result] = {}
    for dataset, methods in summary.items():
        for method, pooled in methods.items():
            if method not in run.methods:
                raise ValueError(f"metrics/summary.json has {method}, which is not in the run; run `dvc repro`")
            for name in ("autoattack", "robust"):
                mean = sum(own[dataset][method][name] for own in figures.values()) / len(figures)
                if abs(mean - pooled[name]) > 2 * NEAR:
                    raise ValueError(f"metrics/summary.json has {name} of {dataset} {method} from other results; run `dvc repro`")
            row = status.loc[(dataset, method)]
            tags = {"verdict": str(row["status"]), "verdict_note": str(row["note"]), "label": str(row["label"])}
            tags |= {"group": str(row["group"]), "repro": hashlib.sha256(text.encode()).hexdigest()[:8]}
            picture, card = metrics / "cards" / dataset / f"{method}.png", card_text(report, dataset, method)
            results |= {(dataset, method, seed): Result(own[dataset][method], tags, picture, card) for seed, own in figures.items()}
    return results


def figures_of_seed(run: Run, data: Path, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """{data set: {method: figures}}, as metrics/summary.json has them over all seeds."""
    from pipeline.reporting.verdict.outcomes import load_headline
    from pipeline.reporting.verdict.status import summary, verdict_frame

    cells, verdict = load_headline(run, data, [seed])
    found = summary(verdict_frame(cells, verdict, run.datasets, run.methods))
    names = {"paper": "paper_attack"}
    return {
        dataset: {method: {names.get(name, name): value for name, value in own.items()} for method, own in methods.items()}
        for dataset, methods in found.items()
    }


def card_text(report: str, dataset: str, method: str) -> str:
    """The model's part of metrics/report.md, or nothing."""
    anchor = re.escape(f'<a id="card-{dataset}-{method}"></a>')
    found = re.search(rf"{anchor}\n(.*?\n</details>)", report, flags=re.DOTALL)
    return found[1] if found else ""


def _models(folder: Path) -> list[Key]:
    summary = json.loads((folder / "metrics/summary.json").read_text(encoding="utf-8"))
    seeds = read_run(folder / "data/items/report.yaml").seeds
    return [(dataset, method, seed) for dataset, methods in summary.items() for method in methods for seed in seeds]


def _keys(folder: Path, model: Key) -> tuple[str, str]:
    """Of the training and of the attacks, as the attacks' record has them."""
    path = folder.joinpath("data/attacks", *map(str, model), "run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    return str(record["trained"]), str(record["key"])


def _record(client: Any, run: Any, result: Result, key: str) -> None:
    """The tag that says that all is there comes last."""
    from mlflow.entities import Metric, RunTag

    there, now, run_id, model = run.data.metrics, int(time.time() * 1000), run.info.run_id, model_of(run)
    new = {name: value for name, value in result.figures.items() if abs(there.get(name, -1.0) - value) > NEAR}
    if result.picture.is_file():
        client.log_artifact(run_id, str(result.picture), "card")
    if result.card:
        client.log_text(run_id, result.card, "card/card.md")
    if model:
        client.set_logged_model_tags(model, result.tags)
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0, model_id=model) for name, value in new.items()])
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in {**result.tags, "key.report": key}.items()])
