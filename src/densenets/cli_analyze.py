"""`densenets analyze ANALYSIS ...`: one short function an analysis; heavy imports inside it.

Each makes plain data, writes it to the folder of --out, draws it, and prints a table or JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from densenets.analysis.options import OutputOptions, ReuseOptions
from densenets.arguments import parse
from densenets.errors import unknown_name

_HELP = """usage: densenets analyze ANALYSIS [...]

  reuse CHECKPOINT            which earlier layers each layer reads: the paper's heat map (Fig. 5)

densenets analyze ANALYSIS --help shows an analysis' options.
"""


def analyze(arguments: list[str]) -> None:
    """Run one analysis.

    Raises:
        InputError: no analysis has the name, or what it is asked cannot be.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_HELP, end="")
    elif name in _ANALYSES:
        _ANALYSES[name](rest)
    else:
        raise unknown_name("analysis", name, _ANALYSES)


def _reuse(arguments: list[str]) -> None:
    options = parse(ReuseOptions, arguments, "analyze reuse")
    from densenets.analysis.reuse import feature_reuse
    from densenets.checkpoint import read_checkpoint
    from densenets.report.analyses import print_reuse
    from densenets.report.reuse import write_reuse

    model = read_checkpoint(options.checkpoint).model
    reuse = feature_reuse(model, options.normalization, with_scale=options.with_scale)
    data = {"checkpoint": str(options.checkpoint), **reuse.to_dict()}
    _write("reuse", options, data, reuse.rows())
    write_reuse(reuse, f"feature reuse, {options.checkpoint}", options.out / "reuse")
    _tell("reuse", options, data, print_reuse)


_ANALYSES: dict[str, Callable[[list[str]], None]] = {
    "reuse": _reuse,
}


def _write(
    name: str, options: OutputOptions, data: dict[str, Any], rows: Sequence[dict[str, Any]] = ()
) -> None:
    """Write an analysis as JSON, with where and when it was made, and its rows as CSV."""
    import torch

    from densenets.files import write_csv, write_json
    from densenets.machine import environment

    write_json(options.out / f"{name}.json", {**environment(torch.device("cpu")), **data})
    if rows:
        write_csv(options.out / f"{name}.csv", rows)


def _tell(
    name: str, options: OutputOptions, data: dict[str, Any], table: Callable[[dict[str, Any]], None]
) -> None:
    """Print an analysis, and where its files lie."""
    if options.json:
        print(json.dumps(data))
        return
    table(data)
    print(f"{options.out} holds {', '.join(_files(name, options.out))}")


def _files(name: str, folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob(f"{name}.*"))
