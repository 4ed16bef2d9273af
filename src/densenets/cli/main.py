"""The command line: `densenets VERB ...`. A verb has its module in this folder, imported when it is called.

Wrong input ends with one line on standard error and exit code 2; a bug with its stack trace.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from densenets import __version__
from densenets.errors import InputError, Interrupted, unknown_name
from densenets.names import one_line

_HELP = """usage: densenets VERB [...]

Densely connected convolutional networks without their drawbacks.

  train RECIPE        train a network; the run's folder holds all that comes out of it
  evaluate RUN        error rates, per-class table and confusion matrix of a run or a checkpoint
  predict RUN FILE    what a trained network sees in pictures
  report RUN          one page that opens in a browser: result, mistakes, network, cost
  convert FILE        a checkpoint from the DenseNet weights of another program
  summary MODEL       a network layer by layer: channels, parameters, multiply-adds, memory
  draw MODEL          a network as a picture: dense blocks with every connection, channels, sizes
  analyze ANALYSIS    see inside: feature reuse, gradients, memory, cost, efficiency, saliency
  benchmark MODEL     time and memory of a network on this machine, beside torchvision's
  reproduce TARGET    a table or figure of the paper, run by run, the paper's figures beside ours
  recipes             the recipes, with what they cost
  models              the networks that have a name

densenets VERB --help shows a verb's options; densenets --version the version.
"""


def main() -> NoReturn:
    """Run the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the terminal's encoding lacks is shown as in a Python string, and ends nothing.
            stream.reconfigure(errors="backslashreplace")
    # Pillow logs some of what it raises, and Python prints what nobody listens to.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    verb, *rest = list(arguments) or ["--help"]
    try:
        if verb in ("-h", "--help", "help"):
            print(_HELP, end="")
        elif verb == "--version":
            print(f"densenets {__version__}")
        elif verb in _VERBS:
            _VERBS[verb](rest)
        else:
            raise unknown_name("verb", verb, _VERBS)
        sys.stdout.flush()
    except InputError as error:
        print(f"densenets: {one_line(str(error))}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"densenets: {one_line(str(stop))}", file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("densenets: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough; Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _verb(module: str, function: str) -> Callable[[list[str]], None]:
    """A verb's function, whose module of this package is imported when it is called."""

    def call(arguments: list[str]) -> None:
        getattr(importlib.import_module(f"densenets.cli.{module}"), function)(arguments)

    return call


_VERBS = {
    "train": _verb("train", "train"),
    "evaluate": _verb("evaluate", "evaluate"),
    "predict": _verb("predict", "predict"),
    "report": _verb("report", "report"),
    "convert": _verb("convert", "convert"),
    "summary": _verb("summary", "summary"),
    "draw": _verb("draw", "draw"),
    "analyze": _verb("analyze", "analyze"),
    "benchmark": _verb("benchmark", "benchmark"),
    "reproduce": _verb("reproduce", "reproduce"),
    "recipes": _verb("catalog", "recipes"),
    "models": _verb("catalog", "models"),
}
