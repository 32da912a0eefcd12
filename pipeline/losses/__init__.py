"""Losses by the name that params.yaml uses. Each is a module that takes (classes, dim, *, options) and holds its prototypes."""

from torch import nn

from pipeline.losses.center import CenterLoss
from pipeline.losses.hcp import HCP
from pipeline.losses.pcl import PCL

LOSSES: dict[str, type[nn.Module]] = {"center": CenterLoss, "hcp": HCP, "pcl": PCL}
