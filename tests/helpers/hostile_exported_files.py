"""Exported files of every form, to begin with, and how they are mutated."""

from __future__ import annotations

import io
import json
import random
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import mutations
import onnx
from hostile_native_files import mutate_graph
from small_exports import export_to

from densenets.engines import native_probe
from densenets.engines.description import EXTRA_FILE, Format, read_export_metadata
from densenets.engines.engine import read_exported
from densenets.engines.torch_engines import archive_metadata

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}


@cache
def _files(to: Format, pixels: bool) -> dict[str, bytes]:
    """The content of an exported file by its ending, and of the .bin beside an .xml."""
    with tempfile.TemporaryDirectory() as folder:
        file = export_to(Path(folder), to, f"network{_SUFFIXES[to]}", pixels=pixels)
        files = [file, *([file.with_suffix(".bin")] if to == "openvino" else [])]
        return {file.suffix: file.read_bytes() for file in files}


def make_exported(to: Format, path: Path, number: int) -> None:
    """An exported file of one normalised image, or of any number of pixels."""
    for suffix, content in _files(to, number % 2 == 1).items():
        path.with_suffix(suffix).write_bytes(content)


def read_engine_file(path: Path) -> object:
    """Open an ONNX or IR file, giving it up after seconds."""
    with mock.patch.object(native_probe, "SECONDS", 8.0):
        return read_exported(path)


def read_archive(path: Path) -> object:
    """Read what a file of torch.export says of itself, which is all that is read of one without trust."""
    return read_export_metadata(archive_metadata(path.read_bytes(), path), path)


def mutate_exported_onnx(path: Path, rng: random.Random) -> None:
    """A file whose description says something else, or whose graph is another."""
    model = onnx.load_model(path)
    kind = rng.random()
    if kind < 0.3:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, mutations.changed_metadata(metadata, rng))
    elif kind < 0.8:
        mutate_graph(model, rng)
    else:
        path.write_bytes(mutations.damaged(path.read_bytes(), rng))
        return
    path.write_bytes(model.SerializeToString())


def mutate_exported_ir(path: Path, rng: random.Random) -> None:
    """An .xml file with other attributes, or without an element or with one twice; or a damaged .bin."""
    kind = rng.random()
    damaged_file = path.with_suffix(".bin") if kind < 0.1 else path
    if kind < 0.25:
        damaged_file.write_bytes(mutations.damaged(damaged_file.read_bytes(), rng))
        return
    document = ElementTree.fromstring(path.read_bytes())
    if kind < 0.45:
        texts = {element.tag: element for element in document.iterfind("./rt_info/densenets/*")}
        metadata = {name: element.get("value", "") for name, element in texts.items()}
        for name, text in mutations.changed_metadata(metadata, rng).items():
            texts[name].set("value", text)
    else:
        for _ in range(rng.choice((1, 1, 2, 5))):
            _change_element(document, rng)
    # What XML has no letters for (NUL, half a surrogate pair) is left out of it.
    text = ElementTree.tostring(document, encoding="unicode").encode(errors="ignore").replace(b"\0", b"")
    path.write_bytes(text)


def _change_element(document: ElementTree.Element, rng: random.Random) -> None:
    graph = [element for part in ("layers", "edges") for element in document.iterfind(f"./{part}//*")]
    element = rng.choice(graph)
    if element.attrib and rng.random() < 0.7:
        name = rng.choice(list(element.attrib))
        others = [other.attrib[name] for other in graph if name in other.attrib]
        extremes = ("", "0", "-1", "1", "4611686018427387904", "1,2", "x", "f64", "nan", "1e999")
        element.set(name, rng.choice((rng.choice(others), *extremes)))
        return
    parent = rng.choice([other for other in document.iter() if len(other)])
    child = rng.choice(list(parent))
    parent.append(child) if rng.random() < 0.5 else parent.remove(child)


def mutate_archive(path: Path, rng: random.Random) -> None:
    """A damaged archive, or one whose description is another, missing, or there twice."""
    content = path.read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(mutations.damaged(content, rng))
        return
    made, kind = io.BytesIO(), rng.randrange(5)
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(made, "w", _packing(kind)) as out:
        for name in archive.namelist():
            part = archive.read(name)
            if name.endswith(EXTRA_FILE) and kind == 0:
                part = bytes(10**8)  # in a hundred kilobytes
            elif name.endswith(EXTRA_FILE) and kind == 1:
                name = rng.choice((name + "x", "/" + name, "../" + name))
            elif name.endswith(EXTRA_FILE) and kind == 2:
                out.writestr("other/extra/" + EXTRA_FILE, part)
            elif name.endswith(EXTRA_FILE):
                part = mutations.json_text(mutations.changed_metadata(json.loads(part), rng), rng)
            out.writestr(name, part)
    path.write_bytes(made.getvalue())


def _packing(kind: int) -> int:
    return zipfile.ZIP_DEFLATED if kind == 0 else zipfile.ZIP_STORED
