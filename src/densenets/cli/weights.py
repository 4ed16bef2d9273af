"""`densenets weights [WEIGHTS]`: published weights, where they are on this machine, and their download.

Needs no PyTorch. Nothing is fetched without --download.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from densenets.cli.command import Command
from densenets.errors import InputError
from densenets.figures.numbers import shape_text
from densenets.files import json_text
from densenets.names import tell
from densenets.terminal import console, plain, print_table
from densenets.weights.published.caches import find_weights, torch_hub_folder
from densenets.weights.published.download import download, download_url
from densenets.weights.published.manifest import NOT_STATED, PUBLISHED, PublishedWeights, published_weights


@dataclass(frozen=True)
class WeightsOptions:
    """Which published weights, and whether they are fetched."""

    name: Positional[str] = ""
    """Weights to show all facts of, such as torchvision/densenet121; without it all are listed."""
    download: bool = False
    """Fetch the file, and check it."""
    folder: Path | None = None
    """Where the file is looked for first, and fetched to; without it torch hub's folder."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """Published weights, and their file on this machine.

    Attributes:
        entry: the weights.
        path: of the file; None if it is not here.
        problem: what is wrong with it; "" if nothing.
    """

    entry: PublishedWeights
    path: Path | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All facts as JSON can hold them."""
        path = str(self.path) if self.path else None
        return {**dataclasses.asdict(self.entry), "path": path, "problem": self.problem}

    @property
    def place(self) -> str:
        """Where the file is, or what is wrong with it, for people."""
        return self.problem or (str(self.path) if self.path else "no")


def weights(options: WeightsOptions) -> None:
    """Print the published weights, or one with all facts; fetch it if asked to.

    Raises:
        InputError: nothing has this name, or it cannot be fetched.
    """
    if not options.name:
        if options.download:
            raise InputError("--download needs a name; densenets weights lists them")
        rows = [_found(entry, options.folder) for entry in PUBLISHED.values()]
        print(json_text([row.to_dict() for row in rows])) if options.json else print_list(rows)
        return
    entry = published_weights(options.name)
    row = _fetched(entry, options.folder) if options.download else _found(entry, options.folder)
    print(json_text(row.to_dict())) if options.json else print_facts(row)


COMMAND = Command(title="weights", options=WeightsOptions, call=weights)


def _found(entry: PublishedWeights, folder: Path | None) -> FoundWeights:
    try:
        return FoundWeights(entry=entry, path=find_weights(entry, folder))
    except InputError as error:
        return FoundWeights(entry=entry, problem=str(error))  # the others are to be listed all the same


def _fetched(entry: PublishedWeights, folder: Path | None) -> FoundWeights:
    path = None if folder else find_weights(entry)
    if path is None:
        target = folder or torch_hub_folder()
        if not (target / entry.file_name).exists():
            tell(f"fetching {download_url(entry)} to {target}")
        path = download(entry, target)
    return FoundWeights(entry=entry, path=path)


def print_list(rows: Sequence[FoundWeights]) -> None:
    """Print a row for every entry."""
    table = Table(box=None)
    for column in ("weights", "network", "size (MiB)", "checksum", "top-1 (%)", "licence", "here"):
        table.add_column(column, justify="right" if "(" in column else "left")
    for row in rows:
        entry = row.entry
        table.add_row(
            entry.name,
            entry.network,
            _number(entry.mebibytes),
            entry.checksum.kind if entry.checksum else "none published",
            _number(entry.top1),
            entry.licence,
            plain(row.place),
        )
    out = console()
    print_table(out, table)
    out.print(
        "size, checksum, accuracy on ImageNet and licence as the packages state them; - and not stated where "
        "they do not. densenets weights WEIGHTS shows all facts of one, and with --download fetches it",
        style="dim",
    )


def print_facts(row: FoundWeights) -> None:
    """Print all facts of an entry."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _facts(row):
        table.add_row(label, plain(value))
    console().print(table)


def _facts(row: FoundWeights) -> Iterable[tuple[str, str]]:
    entry, pixels = row.entry, row.entry.preprocessing
    yield "weights", entry.name
    shape = shape_text((pixels.channels, pixels.image_size, pixels.image_size))
    yield "network", f"{entry.network} of {entry.num_classes} classes, for {shape} inputs"
    yield "BN epsilon", f"{entry.norm_epsilon:g}"
    yield "trained on", entry.trained_on
    yield "file", f"{entry.file_name}, {entry.key_form}"
    yield "URL", download_url(entry)
    yield "size", NOT_STATED if entry.mebibytes is None else f"{entry.mebibytes:g} MiB"
    yield "checksum", _checksum(entry)
    yield (
        "pixels",
        f"the shorter side to {pixels.resize}, the central {pixels.image_size}; of 0 ... 1 mean "
        f"{_numbers(pixels.mean)} and std {_numbers(pixels.std)}",
    )
    yield "interpolation", entry.interpolation
    yield "classes", _classes(entry)
    if entry.thresholds:
        yield "thresholds", ", ".join("-" if value is None else f"{value:g}" for value in entry.thresholds)
    yield (
        "accuracy",
        NOT_STATED if entry.top1 is None else f"top-1 {entry.top1:g}%, top-5 {_number(entry.top5)}%",
    )
    yield "licence", f"{entry.licence}; {entry.licence_note}"
    yield "source", f"{entry.package} {entry.version}"
    for note in entry.notes:
        yield "note", note
    yield "here", row.place


def _checksum(entry: PublishedWeights) -> str:
    if entry.checksum is None:
        return "none published"
    is_whole = len(entry.checksum.digits) == {"sha256": 64, "md5": 32}[entry.checksum.kind]
    return f"{entry.checksum.kind} {'' if is_whole else 'begins '}{entry.checksum.digits}"


def _classes(entry: PublishedWeights) -> str:
    if isinstance(entry.labels, str):
        return f"the {entry.num_classes} of ImageNet"
    return ", ".join(label or "-" for label in entry.labels) or "none: the file has no classifier"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
