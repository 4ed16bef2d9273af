"""`densenets completion SHELL`: what a shell needs to complete verbs, names and options. Needs no PyTorch.

The script that is printed has every name in it, so a shell answers without starting Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from densenets.cli.command import Command
from densenets.cli.command_options import Option, options_of, positional_words
from densenets.cli.completion_scripts import ANY_WORD, Completion, OptionCompletion, Values, bash, fish, zsh

if TYPE_CHECKING:
    from densenets.cli.verbs import Verb

Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True)
class CompletionOptions:
    """The shell that shall complete what is typed."""

    shell: Shell
    """bash, zsh or fish."""


def completion(options: CompletionOptions) -> None:
    """Print the script for a shell."""
    writers: dict[str, Callable[[Sequence[Completion]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
    print(writers[options.shell](completions()), end="")


COMMAND = Command(title="completion", options=CompletionOptions, call=completion)


def completions() -> list[Completion]:
    """What may follow `densenets`, each verb, and each member of a verb."""
    from densenets.cli.verbs import VERBS, VerbGroup, commands

    verbs = Values(names={verb.name: verb.help for verb in VERBS.values()})
    made = [Completion(words=(), exact=True, values=verbs, options=(_HELP, _VERSION))]
    groups = {verb.name: verb for verb in VERBS.values() if isinstance(verb, VerbGroup)}
    for group in groups.values():
        help_lines = {member.name: member.help for member in group.members}
        names = Values(names={name: help_lines.get(name, "") for name in group.names()})
        made.append(Completion(words=(group.name,), exact=True, values=names, options=(_HELP,)))
    for (first, *rest), verb in commands():
        is_any = first in groups and groups[first].alike
        made.append(_of((first, ANY_WORD) if is_any else (first, *rest), verb))
    return made


_HELP = OptionCompletion(names=("--help",), help="show the help")
_VERSION = OptionCompletion(names=("--version",), help="show the versions")


def _of(words: tuple[str, ...], verb: Verb) -> Completion:
    options = options_of(verb.command())
    choices = [name for option in options if not option.names for name in option.choices]
    places = positional_words(verb.arguments)
    named = [
        OptionCompletion(names=option.names, help=option.help, values=_option_values(option))
        for option in options
        if option.names
    ]
    return Completion(words=words, values=_values(places, choices), options=(*named, _HELP))


def _values(places: Sequence[str], choices: Sequence[str]) -> Values:
    """What positional arguments may be, by their placeholders in the help: names, files, or both."""
    names = list(choices)
    files = False
    for place in places:
        if place.startswith("MODEL"):
            names += _model_names()
        if place == "TARGET":
            names += _target_names()
        if place == "[WEIGHTS]":
            names += _weights_names()
        files = files or (not choices and place not in ("TARGET", "[WEIGHTS]"))
    return Values(names=dict.fromkeys(names, ""), files=files)


def _option_values(option: Option) -> Values | None:
    """Values of an option; None of a switch."""
    if not option.value:
        return None
    names: Sequence[str] = option.choices
    if option.field == "model.name":
        names = _model_names()
    elif option.field == "data.name":
        names = _data_names()
    elif option.field.endswith("device"):
        names = ("auto", "cpu", "cuda", "mps")
    return Values(
        names=dict.fromkeys(names, ""),
        files=option.value.startswith("PATH"),
        several=option.value.endswith("..."),
    )


def _model_names() -> Sequence[str]:
    from densenets.models.registry import NETWORKS

    return list(NETWORKS)


def _target_names() -> Sequence[str]:
    from densenets.reproduce.options import TARGETS

    return TARGETS


def _weights_names() -> Sequence[str]:
    from densenets.weights.published.manifest import PUBLISHED

    return list(PUBLISHED)


def _data_names() -> Sequence[str]:
    from densenets.data.dataset_info import DATASET_INFO

    return (*DATASET_INFO, "folder")
