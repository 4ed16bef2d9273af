"""The kind of network that a name stands for, as a figure's legend calls it. Needs no PyTorch."""

from __future__ import annotations

import re

_KINDS = (
    (r"densenet-bc-.*|densenet\d.*", "DenseNet-BC"),
    (r"densenet-b-.*", "DenseNet-B"),
    (r"densenet-c-.*", "DenseNet-C"),
    (r"densenet-.*", "DenseNet"),
    (r"preact-resnet.*", "ResNet (pre-activation)"),
    (r"resnet.*", "ResNet"),
    (r"stochastic-depth-.*", "Stochastic Depth"),
    (r"wrn-.*", "Wide ResNet"),
    (r"plain-.*", "plain"),
    (r"highway-.*", "Highway Network"),
    (r"fractalnet-.*-drop-path", "FractalNet, drop-path"),
    (r"fractalnet-.*", "FractalNet"),
    (r"nin", "Network in Network"),
    (r"all-cnn", "All-CNN"),
    (r"dsn", "Deeply Supervised Net"),
)


def kind_of(name: str) -> str:
    """The kind of a network of the zoo, or of one by its rules."""
    return next(label for pattern, label in _KINDS if re.fullmatch(pattern, name))
