"""Writing a figure as PNG and SVG."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from densenets.figures.fonts import fonts_for
from densenets.files import write_bytes


def write_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.svg, atomically; the same data gives the same bytes."""
    for suffix in ("png", "svg"):
        content = io.BytesIO()
        # Without a date and with a fixed salt the same data gives the same file.
        with fonts_for(figure), mpl.rc_context({"svg.hashsalt": "densenets", "svg.fonttype": "none"}):
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(content, format=suffix, dpi=150, metadata=metadata)
        write_bytes(stem.parent / f"{stem.name}.{suffix}", content.getvalue())
