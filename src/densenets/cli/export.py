"""The verb export: a checkpoint as a file for an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from densenets.cli.command import Command
from densenets.errors import InputError
from densenets.extras import Extra, require
from densenets.names import printable

if TYPE_CHECKING:
    from densenets.engines.description import Dynamic

Form = Literal["onnx", "openvino", "torch-export", "aot-inductor", "torchvision", "timm"]

_EXTRAS: dict[Form, Extra] = {"onnx": "onnx", "openvino": "openvino"}
_SIZES = ("batch", "size")


@dataclass(frozen=True)
class ExportOptions:
    """Which checkpoint leaves in which form, and how it is verified."""

    run: Path
    """A run's folder or a checkpoint file."""
    to: Form = "onnx"
    """The form: one that engines read (onnx, openvino), code for PyTorch, or a library's own weights."""
    dynamic: str = ""
    """What of the input may vary: batch, size, or batch,size; else it is one image of the network's size."""
    with_preprocessing: bool = False
    """The file reads pixels, uint8, of an image that is resized and cropped, and normalises them itself."""
    images: Path | None = None
    """Folder of pictures to verify the file on; without it those that the run reported."""
    int8: Path | None = None
    """Folder of pictures, such as training images, to calibrate 8 bits with; of onnx and openvino."""
    evaluate: str = ""
    """With --int8: a named set or a folder to measure the loss of accuracy on; without it the run's."""
    root: Path | None = None
    """Where a named set lies, if not where it lay in training."""
    most_loss: float = 1.0
    """With --int8: points of top-1 accuracy that it may cost."""
    out: Path | None = None
    """The file, a folder for timm; without it the checkpoint's name with the form's ending, beside it."""


def export(options: ExportOptions) -> None:
    """Export a checkpoint, and print what was exported and how well it agrees."""
    if options.to == "torchvision" or options.to == "timm":
        _export_weights(options)
        return
    dynamic = [part.strip() for part in options.dynamic.split(",") if part.strip()]
    if unknown := [part for part in dynamic if part not in _SIZES]:
        raise InputError(f"--dynamic must be batch, size or batch,size, got '{unknown[0]}'")
    if extra := _EXTRAS.get(options.to):
        require(extra, f"export --to {options.to}")
    if options.int8 is not None and options.to == "openvino":
        require("int8", "export --int8")
    from densenets.export.checkpoint_export import export as export_checkpoint
    from densenets.export.export_config import ExportConfig

    exported = export_checkpoint(
        ExportConfig(
            checkpoint=options.run,
            to=options.to,
            out=options.out,
            dynamic=cast("tuple[Dynamic, ...]", tuple(size for size in _SIZES if size in dynamic)),
            with_preprocessing=options.with_preprocessing,
            images=options.images,
            int8=options.int8,
            evaluate=options.evaluate,
            root=options.root,
            most_loss=options.most_loss,
        )
    )
    for line in exported.lines:
        print(printable(line))


def _export_weights(options: ExportOptions) -> None:
    """Write a checkpoint's weights for a library, and print how they are loaded there."""
    alone = ExportOptions(options.run, options.to, out=options.out)
    if options != alone:
        raise InputError(f"--to {options.to} writes weights alone; of the other options it takes --out")
    from densenets.checkpoint import checkpoint_path, read_checkpoint
    from densenets.weights.library_files import write_timm, write_torchvision

    beside = checkpoint_path(options.run)
    if options.to == "torchvision":
        out = options.out or beside.with_suffix(".pth")
        load = write_torchvision(read_checkpoint(options.run), out)
    else:
        out = options.out or beside.with_name(f"{beside.stem}-timm")
        load = write_timm(read_checkpoint(options.run), out)
    print(printable(f"{out}: weights for {load}"))


COMMAND = Command(title="export", options=ExportOptions, call=export)
