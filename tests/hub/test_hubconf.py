"""hubconf.py: torch.hub loads networks from a checkout, in which the package may not be installed."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from documents import ROOT
from torch.hub import _check_dependencies

import densenets
from densenets.models.registry import DENSENETS

NAMES = ["densenet121", "densenet161", "densenet169", "densenet201", "densenet264"]


def hub_load(name: str, *arguments: Any, **fields: Any) -> Any:
    return torch.hub.load(str(ROOT), name, *arguments, source="local", **fields)


def test_the_entry_points_are_the_named_densenets_and_create_model():
    module = _hubconf()
    entries = [name for name in dir(module) if callable(getattr(module, name)) and name[0] != "_"]
    assert sorted(entries) == sorted([*NAMES, "create_model"])  # as torch.hub.list finds them
    assert set(NAMES) <= set(DENSENETS)
    _check_dependencies(module)
    for name in NAMES:
        assert name in inspect.getdoc(getattr(module, name))


def _hubconf() -> Any:
    from torch.hub import _import_module

    return _import_module("hubconf", str(ROOT / "hubconf.py"))


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_the_network_of_its_name(name: str):
    with torch.device("meta"):
        loaded = hub_load(name, num_classes=7, in_channels=1, dropout=0.1)
        expected = densenets.create_model(name, num_classes=7, in_channels=1, dropout=0.1)
    assert loaded.config == expected.config


def test_any_name_and_any_file_of_weights(tmp_path: Path):
    model = densenets.create_model("densenet-bc-10-4")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    loaded = hub_load("create_model", "densenet-bc-10-4", weights=str(tmp_path / "mine.pth"))
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_weights_that_are_not_here_are_fetched_unless_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from densenets.weights import pretrained

    asked: list[str] = []

    def fetch(entry: Any, folder: Path) -> Path:
        asked.append(entry.name)
        raise densenets.InputError("no network")

    monkeypatch.setattr(pretrained, "fetch", fetch)
    monkeypatch.setattr(pretrained, "find_weights", lambda entry, folder: None)
    with pytest.raises(densenets.InputError, match="is not on this machine"):
        hub_load("densenet121", weights="torchvision", download=False)
    assert not asked
    with pytest.raises(densenets.InputError, match="no network"):
        hub_load("densenet121", weights="torchvision")
    assert asked == ["torchvision/densenet121"]


@pytest.mark.slow
@pytest.mark.skipif("site-packages" in densenets.__file__, reason="installed beside PyTorch")
@pytest.mark.parametrize("beside", [True, False])
def test_the_package_is_found_in_a_checkout_that_is_not_installed(tmp_path: Path, beside: bool):
    clone = tmp_path / "densenets"  # a folder of the package's own name, which may stand in the current one
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "csrc")
    shutil.copytree(ROOT / "src" / "densenets", clone / "src" / "densenets", ignore=ignored)
    shutil.copy(ROOT / "hubconf.py", clone)
    # Without this environment's own densenets.
    code = (
        "import os, sys, torch\n"
        "has_package = lambda path: os.path.exists(os.path.join(path, 'densenets', '__init__.py'))\n"
        "sys.path = [path for path in sys.path if not has_package(path)]\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        f"model = torch.hub.load({'densenets' if beside else str(clone)!r}, 'densenet121', source='local')\n"
        "import densenets; print(densenets.__file__, type(model).__name__, model.config.depth)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path if beside else tmp_path.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(clone / "src" / "densenets" / "__init__.py"), "DenseNet", "121"]
