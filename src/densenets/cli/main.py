"""The command line: `densenets VERB ...`. The verbs stand in `verbs.py`, and are imported when called.

Wrong input ends with one line on standard error and exit code 2, a self-test that failed with one and 1; a
bug with its stack trace.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from densenets import __version__
from densenets.cli.arguments import parse
from densenets.cli.help_pages import all_verbs, first_page, group_page, verb_page
from densenets.cli.verbs import VerbGroup, named_verb
from densenets.errors import InputError, Interrupted, SelfTestError
from densenets.names import one_line

_HELP_WORDS = ("-h", "--help", "help")


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
    try:
        _run(list(arguments))
        sys.stdout.flush()
    except InputError as error:
        print(f"densenets: {one_line(str(error))}", file=sys.stderr)
        return 2
    except SelfTestError as error:
        print(f"densenets: the self-test failed: {one_line(str(error))}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f"densenets: {one_line(str(stop))}", file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("densenets: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _leave_standard_output()  # its reader, such as `head`, has seen enough
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _leave_standard_output()
        print("densenets: the disk is full: the output could not be written", file=sys.stderr)
        return 2
    return 0


def _leave_standard_output() -> None:
    """Drop what has not been written, about which Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> None:
    if not arguments:
        print(first_page())
        return
    name, *rest = arguments
    if name in _HELP_WORDS:
        print(all_verbs())
        return
    if name == "--version":
        # Before PyTorch is loaded, for what is below takes seconds.
        print(f"densenets {__version__}", flush=True)
        from densenets.machine import kernels_and_device

        print(kernels_and_device())
        return
    verb = named_verb(name)
    if isinstance(verb, VerbGroup):
        if not rest or rest[0] in _HELP_WORDS:
            print(group_page(verb))
            return
        verb, rest = verb.named(rest[0]), rest[1:]
    command = verb.command()
    if "-h" in rest or "--help" in rest:
        print(verb_page(verb, command))
        return
    command.call(parse(command, rest))
