"""Losses by the name that params.yaml uses. Each is a module that takes (classes, dim, *, options) and holds its prototypes.
`by_image` says whether an image's value depends on that image alone, so that an attack can ascend it."""

from torch import nn

from pipeline.losses.adp import ADP
from pipeline.losses.atda import ATDA
from pipeline.losses.center import CenterLoss
from pipeline.losses.contrastive import Contrastive
from pipeline.losses.hcp import HCP
from pipeline.losses.pcl import PCL
from pipeline.losses.triplet import Triplet

LOSSES: dict[str, type[nn.Module]] = {
    "adp": ADP,
    "atda": ATDA,
    "center": CenterLoss,
    "contrastive": Contrastive,
    "hcp": HCP,
    "pcl": PCL,
    "triplet": Triplet,
}
