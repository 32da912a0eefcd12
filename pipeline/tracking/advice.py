"""What a store that fails says, in one line, with what to do about it."""

import re
from importlib.util import find_spec
from pathlib import Path

ANEW = "`python -m stages.sync` then records all runs in a new one"
ADVICE = (  # what MLflow and SQLAlchemy say: what to do
    (r"filesystem tracking backend", f"unset MLFLOW_TRACKING_URI, or set tracking.uri to sqlite:///FILE; {ANEW}"),
    (
        r"state is deleted|deleted experiment",
        "`MLFLOW_TRACKING_URI=sqlite:///mlflow/mlflow.db mlflow experiments restore -x ID` brings it back (another store: its "
        "address), or name another tracking.experiment",
    ),
    (r"database is locked|file lock", "another process writes to it; wait for that one"),
    (r"not a database|malformed|no such (table|column)", f"the file is damaged or none of MLflow's: move it away; {ANEW}"),
    (
        r"unable to open|readonly|[Rr]ead-only|Permission denied|Not a directory|File exists",
        "its folder must be there and may be written to",
    ),
    (r"Connection|timed out|Max retries|API request to", "is the server of tracking.uri up, and the address right?"),
)
SHORTENED = 160  # characters of the first sentence, which advice follows


def reason(error: Exception) -> str:
    """One line, without the password that a URI may hold."""
    text = re.sub(r"//[^/@]*@", "//", " ".join(str(error).split()))
    known = _advice(text)
    return f"{type(error).__name__}: {text.split('. ')[0][:SHORTENED] if known else text[:300]}{f'; {known}' if known else ''}"


def _advice(text: str) -> str:
    if schema := re.search(r"out-of-date database schema \(found version (\w+)", text):
        if _is_earlier(schema[1]):
            return "it was made by an earlier MLflow: copy the file, then `mlflow db upgrade` with its sqlite:///FILE"
        return f"it was made by a later MLflow: install that one, or move the file away; {ANEW}"
    return next((known for pattern, known in ADVICE if re.search(pattern, text)), "")


def _is_earlier(version: str) -> bool:
    """Whether the installed MLflow knows this version of the tables, and so can bring it up to date."""
    spec = find_spec("mlflow.store.db_migrations")
    folders = [Path(place, "versions") for place in (spec.submodule_search_locations or ())] if spec else []
    return any(path.name.startswith(f"{version}_") for folder in folders for path in folder.glob("*.py"))
