"""Choice of the engine, and files that hold code."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from small_exports import export_to

from densenets.engines.description import EXTRA_FILE
from densenets.engines.engine import Engine, open_classifier, read_exported
from densenets.errors import InputError


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, and the checkpoint as a program of torch.export."""
    return export_to(tmp_path_factory.mktemp("exported"), "torch-export", "any.pt2", pixels=True).parent


@pytest.fixture
def copies(exported: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to damage."""
    return shutil.copytree(exported, tmp_path / "copies")


def test_a_run_or_a_checkpoint_is_opened_as_before(exported: Path) -> None:
    assert open_classifier(exported / "network.safetensors").engine == f"torch {torch.__version__}"
    open_classifier(exported / "network.safetensors", "torch")


@pytest.mark.parametrize(("engine", "form"), [("onnxruntime", "onnx"), ("aot-inductor", "aot-inductor")])
def test_a_checkpoint_with_another_engine_is_to_be_exported(
    exported: Path, engine: Engine, form: str
) -> None:
    with pytest.raises(InputError, match=f"export it with: densenets export .* --to {form}"):
        open_classifier(exported / "network.safetensors", engine)


def test_code_is_run_of_trusted_files_alone(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.export, "load", None)
    with pytest.raises(InputError, match=r"holds code \(a pickle\).*--trust"):
        read_exported(exported / "any.pt2")


def test_a_foreign_archive_lacks_the_classes(copies: Path) -> None:
    torch.export.save(torch.export.load(copies / "any.pt2"), copies / "foreign.pt2")
    with pytest.raises(InputError, match="not written by densenets export: its metadata have no format"):
        read_exported(copies / "foreign.pt2", trust=True)


def test_a_description_is_read_without_running_the_code_beside_it(copies: Path) -> None:
    with zipfile.ZipFile(copies / "any.pt2") as archive:
        names = [name for name in archive.namelist() if name.endswith(EXTRA_FILE)]
        text = archive.read(names[0]).decode()
    with zipfile.ZipFile(copies / "empty.pt2", "w") as archive:
        archive.writestr(f"empty/extra/{EXTRA_FILE}", text)
    with pytest.raises(InputError, match="holds code"):
        read_exported(copies / "empty.pt2")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_one_line(copies: Path, share: float) -> None:
    content = (copies / "any.pt2").read_bytes()
    (copies / "any.pt2").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"is not a whole \.pt2 archive|have no format"):
        read_exported(copies / "any.pt2", trust=True)


def test_the_engine_of_an_archive_is_known_without_opening_it(exported: Path) -> None:
    with pytest.raises(InputError, match="of the form torch-export, which torch runs, not openvino"):
        open_classifier(exported / "any.pt2", "openvino")
