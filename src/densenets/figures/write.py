"""Writing a figure as PNG, SVG and PDF."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from densenets.figures.fonts import fonts_for
from densenets.files import write_bytes

DPI = 150  # of a PNG


def write_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.svg, atomically; the same data gives the same bytes."""
    for suffix in ("png", "svg"):
        write_figure_file(figure, stem.parent / f"{stem.name}.{suffix}")


def write_figure_file(figure: Figure, path: Path) -> None:
    """Write a figure as its path ends: .png, .svg or .pdf; atomically, the same data as the same bytes."""
    suffix = path.suffix.lower().removeprefix(".")
    content = io.BytesIO()
    # Without a date and with a fixed salt the same data gives the same file.
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[suffix]
    with fonts_for(figure), mpl.rc_context({"svg.hashsalt": "densenets", "svg.fonttype": "none"}):
        figure.savefig(content, format=suffix, dpi=DPI, metadata=metadata)
    write_bytes(path, content.getvalue())
