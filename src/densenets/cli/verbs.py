"""The verbs of `densenets`: names, arguments, help, and what they do, imported when they are called.

The help, the completions, the reference of commands and the tests read this table. To add a verb, write its
options, its function and their `COMMAND` in a module of this folder, and add an entry to `SECTIONS`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from densenets.cli.command import Command
from densenets.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A word behind `densenets`, such as `predict`, or behind a group's, such as `reuse` of `analyze reuse`.

    Attributes:
        name: the word.
        arguments: placeholders of what stands behind it.
        help: what it is for, in a line.
        command: returns what it does, and its options; imports them.
    """

    name: str
    arguments: str = ""
    help: str
    command: Callable[[], Command[Any]]


@dataclass(frozen=True, kw_only=True)
class VerbGroup:
    """A verb whose first argument decides what its options are: `analyze ANALYSIS`, `train RECIPE`.

    Attributes:
        name: the word.
        arguments: placeholder of its first argument.
        help: what it is for, in a line.
        kind: what the first argument is, as errors name it.
        names: returns the first arguments that have a name.
        members: verbs by these names, for the help; none where a list would be too long.
        named: returns the verb that a first argument makes of it.
        alike: whether all take the same options, with other defaults.
        more: where to read on, as the group's help ends.
    """

    name: str
    arguments: str
    help: str
    kind: str
    names: Callable[[], Sequence[str]]
    members: tuple[Verb, ...] = ()
    named: Callable[[str], Verb]
    alike: bool = False
    more: str


def _at(place: str) -> Callable[[], Command[Any]]:
    """The command at a place of this folder, such as "predict:COMMAND", imported when it is asked for."""
    return partial(pkgutil.resolve_name, f"densenets.cli.{place}")


def _train(recipe: str) -> Verb:
    return Verb(name=recipe, help="train a network by this recipe", command=partial(_train_command, recipe))


def _train_command(recipe: str) -> Command[Any]:
    from densenets.cli.train import train_command

    return train_command(recipe)


def _recipe_names() -> Sequence[str]:
    from densenets.training.recipes import recipe_names

    return recipe_names()


def _analyze(analysis: str) -> Verb:
    for verb in ANALYSES:
        if verb.name == analysis:
            return verb
    raise unknown_name("analysis", analysis, _analysis_names())


def _analysis_names() -> Sequence[str]:
    return [verb.name for verb in ANALYSES]


ANALYSES = (
    Verb(
        name="reuse",
        arguments="CHECKPOINT",
        help="which earlier layers each layer reads: the paper's heat map (Fig. 5)",
        command=_at("analyze:REUSE"),
    ),
    Verb(
        name="gradients",
        arguments="MODEL ...",
        help="signal and gradient by depth, at initialisation and along training",
        command=_at("analyze:GRADIENTS"),
    ),
    Verb(
        name="memory",
        arguments="MODEL",
        help="training memory against depth and batch, measured beside predicted",
        command=_at("analyze:MEMORY"),
    ),
    Verb(
        name="cost",
        arguments="MODEL ...",
        help="multiply-adds, and the time of forward pass, backward pass, optimiser",
        command=_at("analyze:COST"),
    ),
    Verb(
        name="efficiency",
        arguments="RUN ...",
        help="error against what finished runs cost (Figs. 3 and 4)",
        command=_at("analyze:EFFICIENCY"),
    ),
    Verb(
        name="saliency",
        arguments="CHECKPOINT IMAGE ...",
        help="where in a picture each dense block looks: Grad-CAM",
        command=_at("analyze:SALIENCY"),
    ),
)

# By what they are for, as `densenets --help` shows them.
SECTIONS: dict[str, tuple[Verb | VerbGroup, ...]] = {
    "Train and use a network": (
        VerbGroup(
            name="train",
            arguments="RECIPE",
            help="train a network; the run's folder holds all that comes out of it",
            kind="recipe",
            names=_recipe_names,
            named=_train,
            alike=True,
            more="densenets recipes lists the recipes; densenets train RECIPE --help shows its fields, "
            "each an option.",
        ),
        Verb(
            name="evaluate",
            arguments="RUN",
            help="error rates, per-class table and confusion matrix of a run or a checkpoint",
            command=_at("evaluate:COMMAND"),
        ),
        Verb(
            name="predict",
            arguments="RUN FILE ...",
            help="what a trained network sees in pictures",
            command=_at("predict:COMMAND"),
        ),
        Verb(
            name="embed",
            arguments="CHECKPOINT FILE ...",
            help="the features of pictures, for search, clustering and other classifiers",
            command=_at("embed:COMMAND"),
        ),
        Verb(
            name="report",
            arguments="RUN",
            help="one page that opens in a browser: result, mistakes, network, cost",
            command=_at("report:COMMAND"),
        ),
        Verb(
            name="convert",
            arguments="FILE",
            help="a checkpoint from the DenseNet weights of another program",
            command=_at("convert:COMMAND"),
        ),
        Verb(
            name="export",
            arguments="CHECKPOINT",
            help="a checkpoint as a file for ONNX Runtime, OpenVINO or PyTorch's compiler, verified",
            command=_at("export:COMMAND"),
        ),
    ),
    "See inside, measure, compare with the paper": (
        Verb(
            name="summary",
            arguments="MODEL",
            help="a network layer by layer: channels, parameters, multiply-adds, memory",
            command=_at("summary:COMMAND"),
        ),
        Verb(
            name="draw",
            arguments="MODEL",
            help="a network as a picture: dense blocks, connections, channels, sizes",
            command=_at("draw:COMMAND"),
        ),
        VerbGroup(
            name="analyze",
            arguments="ANALYSIS",
            help="see inside: feature reuse, gradients, memory, cost, efficiency, saliency",
            kind="analysis",
            names=_analysis_names,
            members=ANALYSES,
            named=_analyze,
            more="densenets analyze ANALYSIS --help shows an analysis' options.",
        ),
        Verb(
            name="benchmark",
            arguments="MODEL",
            help="time and memory of a network on this machine, beside torchvision's",
            command=_at("benchmark:COMMAND"),
        ),
        Verb(
            name="reproduce",
            arguments="TARGET",
            help="a table or figure of the paper, run by run, the paper's figures beside ours",
            command=_at("reproduce:COMMAND"),
        ),
    ),
    "Find out": (
        Verb(name="recipes", help="the recipes, with what they cost", command=_at("catalog:RECIPES")),
        Verb(name="models", help="the networks that have a name", command=_at("catalog:MODELS")),
        Verb(
            name="weights",
            arguments="[WEIGHTS]",
            help="published weights: checksums, pixels, classes, licences; where they are here; download",
            command=_at("weights:COMMAND"),
        ),
        Verb(
            name="completion",
            arguments="SHELL",
            help="a script that makes bash, zsh or fish complete verbs, names and options",
            command=_at("completion:COMMAND"),
        ),
        Verb(
            name="doctor",
            help="what is installed, what runs here and why not the rest, a self-test of the kernels",
            command=_at("doctor:COMMAND"),
        ),
    ),
}
VERBS: dict[str, Verb | VerbGroup] = {verb.name: verb for verbs in SECTIONS.values() for verb in verbs}


def named_verb(name: str) -> Verb | VerbGroup:
    """The verb of this name.

    Raises:
        InputError: there is none.
    """
    if name not in VERBS:
        kind = "option" if name.startswith("-") else "verb"
        raise unknown_name(kind, name, [*VERBS, "--help", "--version"])
    return VERBS[name]


def commands() -> Iterator[tuple[list[str], Verb]]:
    """Every verb with options of its own, and the words that call it; of `train` that of one recipe."""
    for verb in VERBS.values():
        if isinstance(verb, Verb):
            yield [verb.name], verb
            continue
        names = verb.names()
        for name in names[:1] if verb.alike else names:
            yield [verb.name, name], verb.named(name)
