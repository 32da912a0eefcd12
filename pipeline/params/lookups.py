"""All names that params.yaml can use, so that whichever stage runs first finds every wrong one. For checking only: what a stage
computes with it looks up itself."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.attacks import ATTACKS
from pipeline.data.sources import SOURCES
from pipeline.losses import LOSSES
from pipeline.models import NETWORKS

LOOKUPS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "attacks": ATTACKS,
    "losses": LOSSES,
    "networks": NETWORKS,
    "sources": SOURCES,
}
