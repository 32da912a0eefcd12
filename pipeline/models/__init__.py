"""Networks by the name that params.yaml uses. Each takes (classes, mean, std, *, options)."""

from pipeline.models.network import Network
from pipeline.models.small_cnn import SmallCNN

NETWORKS: dict[str, type[Network]] = {"small_cnn": SmallCNN}
