"""Densely connected convolutional networks (Huang et al. 2017) without their drawbacks.

    import densenets
    model = densenets.create_model("densenet121", num_classes=14, in_channels=1)
    model = densenets.load("runs/demo")  # a run's folder or a checkpoint file
    classifier = densenets.Classifier.load("runs/demo")  # pictures -> classes, probabilities, features

Importing the package loads nothing heavy; PyTorch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from densenets.errors import InputError

if TYPE_CHECKING:
    from densenets.checkpoint import Checkpoint, load
    from densenets.classifier import Classifier
    from densenets.hub.hub_model import HubModel
    from densenets.models.densenet import DenseNet
    from densenets.models.densenet_config import DenseNetConfig
    from densenets.weights.pretrained import create_model, list_models

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Classifier",
    "DenseNet",
    "DenseNetConfig",
    "HubModel",
    "InputError",
    "__version__",
    "create_model",
    "list_models",
    "load",
]

_HOMES = {
    "Checkpoint": "densenets.checkpoint",
    "Classifier": "densenets.classifier",
    "DenseNet": "densenets.models.densenet",
    "DenseNetConfig": "densenets.models.densenet_config",
    "HubModel": "densenets.hub.hub_model",
    "create_model": "densenets.weights.pretrained",
    "list_models": "densenets.weights.pretrained",
    "load": "densenets.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'densenets' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
