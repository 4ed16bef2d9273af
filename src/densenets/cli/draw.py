"""`densenets draw MODEL`: a network as a picture. Needs no PyTorch unless a checkpoint is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from densenets.analysis.drawing.compute import Style, draw_dense_block, draw_network
from densenets.analysis.drawing.drawing import Drawing
from densenets.cli.command import Command
from densenets.cli.network_options import DENSE_BLOCK, NetworkOptions, shown_network
from densenets.errors import InputError
from densenets.extras import require
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import name_of
from densenets.names import printable

_FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class DrawOptions(NetworkOptions):
    """The network that is drawn, for what input, and how."""

    out: Path = Path("network.svg")
    """The picture; its ending says the format: .svg, .png or .pdf."""
    style: Style = "auto"
    """network: all layers and connections; chain: a box a stage; block: one dense block; auto chooses."""
    block: int = 0
    """The number of a dense block, from 1, to draw this block alone."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in _FORMATS:
            raise InputError(
                f"--out must end in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, got {self.out}"
            )


def draw(options: DrawOptions) -> None:
    """Draw a network or a dense block, and print what is drawn."""
    require("plots", "draw")
    drawing = _drawing(options)
    from densenets.analysis.drawing.figure import write_drawing

    write_drawing(drawing, options.out)
    for line in (f"{drawing.title}: {drawing.facts}", *drawing.notes, f"drawn in {options.out}"):
        print(printable(line))


COMMAND = Command(title="draw", options=DrawOptions, call=draw)


def _drawing(options: DrawOptions) -> Drawing:
    config, table = shown_network(options)
    if options.model == DENSE_BLOCK:
        assert isinstance(config, DenseNetConfig)
        if options.style not in ("auto", "block") or options.block > 1:
            raise InputError(f"{DENSE_BLOCK} is one dense block; leave --style and --block out")
        return draw_dense_block(config, table)
    name = options.model
    if Path(name).exists() and (known := name_of(config)):
        name = f"{known} ({name})"
    return draw_network(name, config, table, style=options.style, block=options.block)
