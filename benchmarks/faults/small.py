"""A profile that runs in two minutes and has everything: for tests and for faults."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def small_params() -> dict[str, Any]:
    """The shipped params on one epoch, 20 images and three methods."""
    steps = {
        "apgd_ce": {"steps": 3},
        "apgd_t": {"steps": 3, "targets": 2},
        "fab_t": {"steps": 3, "targets": 2},
        "square": {"queries": 5},
    }
    return {
        "extends": str(ROOT / "params.yaml"),
        "root": str(ROOT),
        "run": {"datasets": ["digits"], "methods": ["softmax_fs", "hcp", "center"], "seeds": [0], "attacks": ["fgsm", "bim"]},
        "datasets": {
            "digits": {
                "networks": {
                    "main": {"widths": [8, 8, 8, 8], "branch": 8, "penultimate": 8},
                    "source": {"width": 4, "penultimate": 8},
                },
                "training": {"epochs": {"pretrain": 1, "train": 1}},
                "evaluation": {
                    "linf": {"eps": [0.05, 0.15], "sweep": [0.5]},
                    "l2": {"c": [0.1], "images": 5},
                    "images": 20,
                    "keep_images": 3,
                },
            }
        },
        "methods": {
            "softmax_fs": {"measure": ["noise", "cw", "sweep"]},
            "hcp": {"measure": ["noise", "adaptive", "l2"], "loss": {"negative": 1.0}},
        },
        "transfer": {"sources": ["vgg"], "methods": ["softmax_fs", "madry"]},
        "planes": {"methods": ["hcp", "pcl_deep"], "epochs": [1]},
        "cost": {"methods": ["softmax_fs", "hcp", "triplet"], "repeats": 1},
        "noise": {"steps": 3},
        "attacks": {"cw": {"steps": 3}},
        "autoattack": {"rapid": steps, "standard": steps},
        "verdict": {
            "adaptive": {"steps": 3, "restarts": 1, "targets": 2},
            "follow_up": {"queries": 10, "draws": 2, "steps": 2},
            "steps": [1, 2],
            "examples": 2,
        },
    }
