"""Feature reuse as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from densenets.analysis.reuse.compute import FeatureReuse
from densenets.figures.numbers import significant
from densenets.terminal import console, plain_title, print_table


def print_reuse(checkpoint: str, reuse: FeatureReuse) -> None:
    """Print the mean weights of each block's heat map."""
    table = Table(box=None, title=plain_title(f"feature reuse of {checkpoint}"))
    columns = (
        "block",
        "layers",
        "input",
        "layer before",
        "earlier layers",
        "reader",
        "first",
        "middle",
        "last third",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "reader" else "right")
    for block, means in zip(reuse.blocks, reuse.summary(), strict=True):
        table.add_row(
            f"{block.number}",
            f"{len(block.targets) - 1}",
            *(significant(mean, 4) for mean in (means.input, means.next, means.earlier)),
            block.targets[-1],
            *(significant(mean, 4) for mean in means.reader),
        )
    out = console()
    print_table(out, table)
    out.print(
        f"means of the {reuse.meaning}; of dense layers by the weights of their {reuse.through}: to the "
        "block's input, to the layer directly before, to the layers before that; then of what reads the "
        "whole block, by thirds of its sources",
        style="dim",
    )
