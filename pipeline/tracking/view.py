"""The page of MLflow that `make ui` opens: the list of models with their figures beside a comparison of them."""

import json
from typing import Any

from pipeline.tracking.figures import HEADLINE
from pipeline.tracking.store import Store

NAME = "models"
TAG = f"mlflow.sharedViewState.{NAME}"  # where MLflow keeps what its button Share makes a link of
NOTE = "mlflow.note.content"
ABOUT = (
    "One run a model: its params, its curves, and what every attack leaves, accuracy in %. **clean**: without attack. "
    "**paper_attack**: under the strongest of the papers' attacks. **adaptive**: under attacks that know the "
    "prototypes. **autoattack**: under AutoAttack. **robust**: right under every attack that was tried. Of a model that was "
    "trained or attacked anew, the earlier run has the tag `superseded_by`. Runs of one report have the same tag `repro`, "
    "those of a DVC experiment its name in the tag `experiment`."
)


def page(experiment_id: str, *, charts: bool) -> str:
    """Path on the server: of the list, with figures as columns, or of the names beside charts."""
    mode = "compareRunsMode=CHART&" if charts else ""
    return f"/#/experiments/{experiment_id}/runs?{mode}viewStateShareKey={NAME}&workflowType=machine_learning"


def view() -> dict[str, Any]:
    """Columns, filter, order and charts, in MLflow's own form."""
    axes = ["clean", "paper_attack", "robust"]
    bars = [_chart("BAR", name, metricKey=name, runsCountToCompare=30) for name in reversed(axes)]
    section = {"uuid": NAME, "name": "Accuracy in %", "display": True, "isReordered": True, "isGenerated": False, "columns": 2}
    columns = [f"metrics.`{name}`" for name in HEADLINE]
    columns += ["tags.`verdict`", "tags.`experiment`", *(f"attributes.`{name}`" for name in ("Dataset", "Models", "Description"))]
    return {
        "searchFilter": "metrics.robust >= 0 and tags.superseded_by IS NULL",
        "orderByKey": "metrics.`robust`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns],
        "columnWidths": dict.fromkeys(columns[: len(HEADLINE)], 110),
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "compareRunSections": [section],
        "compareRunCharts": [_chart("PARALLEL", "axes", selectedParams=[], selectedMetrics=axes, showAllRuns=True), *bars],
        "isAccordionReordered": True,
    }


def save_view(store: Store) -> None:
    """Puts the page's view into the experiment, and says what its columns are where the user has not said anything there."""
    tags, state = store.client.get_experiment(store.experiment_id).tags, json.dumps(view())
    if tags.get(TAG) != state:
        store.client.set_experiment_tag(store.experiment_id, TAG, state)
    if NOTE not in tags:
        store.client.set_experiment_tag(store.experiment_id, NOTE, ABOUT)


def _chart(kind: str, name: str, **options: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": f"{NAME}-{name}", "metricSectionId": NAME, "deleted": False, "isGenerated": False, **options}
