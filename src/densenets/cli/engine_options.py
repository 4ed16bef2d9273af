"""Opening of what a verb classifies with: a run, a checkpoint or an exported file. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from densenets.trained_network import TrainedNetwork

EngineName = Literal["auto", "torch", "onnxruntime", "openvino", "aot-inductor"]


def opened_classifier(
    path: Path, engine: EngineName, device: str, *, trust: bool
) -> tuple[TrainedNetwork, str]:
    """What a path names, ready to classify, and the device that "auto" is for it.

    Raises:
        InputError: there is none, or it cannot be opened so.
    """
    from densenets.engines.engine import device_for, open_classifier

    return open_classifier(path, engine, trust=trust), device_for(path, device)
