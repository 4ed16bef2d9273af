"""Saliency as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from densenets.analysis.saliency.compute import ImageSaliency
from densenets.terminal import console, plain, plain_title, print_table


def print_saliency(checkpoint: str, images: Sequence[ImageSaliency]) -> None:
    """Print the explained class of each picture, and the blocks that find no evidence for it."""
    table = Table(box=None, title=plain_title(f"Grad-CAM of {checkpoint}"))
    for column in ("picture", "explained", "probability", "likeliest", "blocks without evidence"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for image in images:
        without = [str(block.block) for block in image.maps if not block.has_evidence]
        table.add_row(
            plain(str(image.path)),
            plain(image.explained),
            f"{image.probability:.1%}",
            plain(image.predicted),
            ", ".join(without) or "-",
        )
    print_table(console(), table)
