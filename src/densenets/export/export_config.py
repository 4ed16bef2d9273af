"""What is exported, to which form, and how it is verified."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from densenets.engines.description import Dynamic, Format
from densenets.errors import InputError

SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch-export": ".pt2",
    "aot-inductor": ".pt2",
}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported, to which form, and how it is verified.

    Attributes:
        checkpoint: a run's folder or a checkpoint file.
        to: the form.
        out: the file; None for the checkpoint's name with the form's ending.
        dynamic: sizes of the input that may vary.
        with_preprocessing: the graph reads pixels and normalises them.
        images: folder of pictures that the networks are compared on; None for the run's own data.
        int8: folder of pictures for calibration; None for float32.
        evaluate: data that the loss of top-1 accuracy is measured on; "" for the run's own.
        root: where a named set lies; None for where it lay in training.
        most_loss: points of top-1 accuracy that quantisation may cost.

    Raises:
        InputError: the form has no such ending, or no quantisation; or most_loss is no number.
    """

    checkpoint: Path
    to: Format
    out: Path | None = None
    dynamic: tuple[Dynamic, ...] = ()
    with_preprocessing: bool = False
    images: Path | None = None
    int8: Path | None = None
    evaluate: str = ""
    root: Path | None = None
    most_loss: float = 1.0

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix.lower() != SUFFIXES[self.to]:
            raise InputError(f"--out of {self.to} must end in {SUFFIXES[self.to]}, got {self.out}")
        if not math.isfinite(self.most_loss):
            raise InputError(f"--most-loss must be a number of points, got {self.most_loss}")
        if self.int8 is not None and self.to not in ("onnx", "openvino"):
            raise InputError(f"--int8 is of onnx and openvino; {self.to} has no quantisation here")

    @property
    def file(self) -> Path:
        """The file that is written."""
        if self.out is not None:
            return self.out
        source = self.checkpoint if self.checkpoint.name else self.checkpoint.absolute()
        name = source.name if source.is_dir() else source.stem
        kind = "-aot" if self.to == "aot-inductor" else ""
        return source.parent / f"{name}{kind}{'-int8' if self.int8 else ''}{SUFFIXES[self.to]}"
