"""The verb predict: classes of pictures as rows, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from densenets.cli.command import Command
from densenets.cli.engine_options import EngineName, opened_classifier
from densenets.cli.picture_options import on_broken, shown
from densenets.cli.unfinished_run import tell_if_unfinished
from densenets.errors import InputError
from densenets.files import json_text, write_bytes
from densenets.names import tell

if TYPE_CHECKING:
    from densenets.prediction import Prediction

Format = Literal["csv", "json"]


@dataclass(frozen=True)
class PredictOptions:
    """Which pictures are classified, and how the result is written."""

    run: Path
    """A run's folder, a checkpoint file, or an exported file (.onnx, .xml, .pt2)."""
    files: tuple[Path, ...]
    """Pictures, and folders of pictures."""
    format: Format = "csv"
    """A table, or a JSON object a line."""
    top: int = 5
    """How many classes a row names."""
    out: Path | None = None
    """File for the rows; without it they are printed."""
    device: str = "auto"
    """auto, cpu, cuda, ...; exported files run on the CPU."""
    engine: EngineName = "auto"
    """What runs it; auto takes what it was exported for, and PyTorch for a run or a checkpoint."""
    trust: bool = False
    """Open a .pt2 file, which runs the code in it: only if you know who made it."""
    batch_size: int = 32
    """Pictures that are computed together."""
    skip_broken: bool = False
    """Leave out pictures that cannot be decoded, naming them."""


def predict(options: PredictOptions) -> None:
    """Classify pictures, and print or write a row a picture."""
    if options.top < 1 or options.batch_size < 1:
        raise InputError("--top and --batch-size are at least 1")
    if not options.files:
        raise InputError("name at least one picture, or a folder of pictures, behind the run")
    from densenets import prediction
    from densenets.engines.engine import is_exported
    from densenets.machine import choose_device

    classifier, device = opened_classifier(options.run, options.engine, options.device, trust=options.trust)
    tell_if_unfinished(options.run, classifier.details)
    paths = prediction.find_images(options.files)
    predictions = prediction.predict(
        classifier,
        paths,
        device=choose_device(device),
        top=options.top,
        batch_size=options.batch_size,
        on_broken=on_broken(skip=options.skip_broken),
    )
    write_predictions(predictions, len(paths), options.format, options.out)
    if is_exported(options.run):
        tell(f"classified by {classifier.engine}")


COMMAND = Command(title="predict", options=PredictOptions, call=predict)


def write_predictions(predictions: Iterable[Prediction], count: int, form: Format, out: Path | None) -> None:
    r"""Write a row per picture: `path`, then class and probability of the likeliest classes.

    Both forms are UTF-8. A name's byte that is none, and on standard output what its encoding lacks, stands
    as in a Python string (`\udcff`, `\xe9`); of JSON every reader gets the name back as it is.

    Args:
        predictions: made as they are written.
        count: how many pictures there are, for the progress bar.
        form: "csv" with a header, or "json", an object a line.
        out: the file, written whole or not at all; None prints each row as it is made.

    Raises:
        InputError: a picture cannot be read, or the file cannot be written.
    """
    bar = shown(predictions, "Predicting", count)
    rows = _csv_rows(bar) if form == "csv" else _json_rows(bar)
    if out is None:
        for row in rows:
            sys.stdout.write(row)
        return
    write_bytes(out, "".join(rows).encode(errors="backslashreplace"))


def _csv_rows(predictions: Iterable[Prediction]) -> Iterator[str]:
    for number, prediction in enumerate(predictions):
        ranks = range(1, len(prediction.classes) + 1)
        if number == 0:
            yield _csv_row(
                ["path", *(f"{name}{rank}" for rank in ranks for name in ("class", "probability"))]
            )
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        yield _csv_row([str(prediction.path), *(cell for name, p in pairs for cell in (name, f"{p:.6f}"))])


def _csv_row(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _json_rows(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        guesses = [{"class": name, "probability": round(p, 6)} for name, p in pairs]
        yield json_text({"path": str(prediction.path), "predictions": guesses}) + "\n"
