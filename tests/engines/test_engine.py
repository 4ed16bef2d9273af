"""Exported files opened and run: what the checkpoint predicts, and one line for what is not to be opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
import torch
from small_exports import save_small_checkpoint

from densenets.checkpoint import read_checkpoint
from densenets.engines.description import FORMAT
from densenets.engines.engine import Engine, open_classifier, read_exported
from densenets.errors import InputError
from densenets.export.checkpoint_export import export
from densenets.export.export_config import ExportConfig
from densenets.prediction import find_images, predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, pictures, and the checkpoint in every form that needs no compiler."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = save_small_checkpoint(folder / "network.safetensors")
    write_pictures(folder / "pictures")
    for to in ("onnx", "openvino", "torch-export"):
        export(ExportConfig(checkpoint=checkpoint, to=to, images=folder / "pictures"))
    return folder
