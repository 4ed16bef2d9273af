"""How programs name a DenseNet's weights: their keys -> ours, which are torchvision's of today. No PyTorch.

A new form of keys is one more entry of `FORMS`: a table of names, and which of them only that form has.
Names are all that a form may differ in: a program that puts a layer's maps in front of the older ones, say,
computes another function with weights of the same shapes, and cannot be such an entry.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from densenets.errors import InputError

COUNTER = "num_batches_tracked"  # steps that a norm has seen, which its mean over all steps alone would need

_PREFIXES = re.compile(r"(?:module\.|model\.|_orig_mod\.|net\.|backbone\.)*")
# What tools leave in a state dict: how many models were averaged (torch.optim.swa_utils), what thop counted.
_WITHOUT_CONTENT = re.compile(r"n_averaged|(?:.+\.)?total_(?:ops|params)")

_DENSE_LAYER = "features.denseblock{block}.denselayer{layer}"


@dataclass(frozen=True, kw_only=True)
class KeyForm:
    """One program's names for the modules of a DenseNet.

    A name is a template: {block}, {layer} and {unit} stand for numbers. What a module calls its tensors
    (weight, running_mean, ...) is the same everywhere. A module that the table lacks keeps its name.

    Attributes:
        name: as it is told to people.
        modules: (their name, ours) of every module whose names differ.
        marks: their names that only this form has; a file has this form if it has a module of each.
        from_zero: the numbers that they count from 0; ours all count from 1.
    """

    name: str
    marks: tuple[str, ...]
    modules: tuple[tuple[str, str], ...] = ()
    from_zero: frozenset[str] = field(default_factory=frozenset)

    def recognizes(self, keys: Iterable[str]) -> bool:
        """Whether these are keys of this form."""
        modules = {_module(key) for key in keys}
        return all(any(_pattern(mark).fullmatch(module) for module in modules) for mark in self.marks)

    def ours(self, key: str) -> str:
        """Our name for a key of theirs."""
        return self._translated(key, self.modules, shift=1)

    def theirs(self, key: str) -> str:
        """Their name for a key of ours."""
        return self._translated(key, [(ours, theirs) for theirs, ours in self.modules], shift=-1)

    def _translated(self, key: str, table: Iterable[tuple[str, str]], *, shift: int) -> str:
        module = _module(key)
        for name, other_name in table:
            if match := _pattern(name).fullmatch(module):
                numbers = {
                    kind: int(number) + (shift if kind in self.from_zero else 0)
                    for kind, number in match.groupdict().items()
                }
                return other_name.format(**numbers) + key.removeprefix(module)
        return key


FORMS = (
    # The files that torchvision published before its modules were renamed; the older one comes first, since
    # its stem and transitions have today's names.
    KeyForm(
        name="torchvision-old",
        marks=(f"{_DENSE_LAYER}.norm.{{unit}}",),
        modules=(
            (f"{_DENSE_LAYER}.norm.{{unit}}", f"{_DENSE_LAYER}.norm{{unit}}"),
            (f"{_DENSE_LAYER}.conv.{{unit}}", f"{_DENSE_LAYER}.conv{{unit}}"),
        ),
    ),
    KeyForm(name="torchvision", marks=(f"{_DENSE_LAYER}.norm{{unit}}",)),
    # CIFAR's networks of the DICE port (deeplearning-wisc/dice) and of andreasveit/densenet-pytorch, whose
    # module it is, with bottlenecks and without. Wide ResNets have such blocks too, but no transitions.
    KeyForm(
        name="dice",
        marks=("block{block}.layer.{layer}.bn{unit}", "trans{block}.bn1"),
        modules=(
            ("conv1", "features.conv0"),
            ("block{block}.layer.{layer}.bn{unit}", f"{_DENSE_LAYER}.norm{{unit}}"),
            ("block{block}.layer.{layer}.conv{unit}", f"{_DENSE_LAYER}.conv{{unit}}"),
            ("trans{block}.bn1", "features.transition{block}.norm"),
            ("trans{block}.conv1", "features.transition{block}.conv"),
            ("bn1", "features.norm5"),
            ("fc", "classifier"),
        ),
        from_zero=frozenset({"layer"}),
    ),
)


@dataclass(frozen=True)
class Renaming:
    """Where every key of a file goes.

    Attributes:
        form: how the file names a DenseNet's weights; None if it holds no DenseNet that we know of.
        keys: each key of the file -> ours; None for one that is known to carry nothing.
    """

    form: KeyForm | None
    keys: dict[str, str | None]

    def theirs(self, key: str) -> str:
        """The file's name for a key of ours; if it lacks that key, the name that it should have."""
        for source, ours in self.keys.items():
            if ours == key:
                return source
        return self.form.theirs(key) if self.form else key


def rename(keys: Iterable[str]) -> Renaming:
    """Find out what form the keys of a file have, and give each our name.

    Prefixes that wrappers leave (`module.` and such) go. A key that the form does not know keeps its name.

    Raises:
        InputError: two keys would get the same name.
    """
    bare = {key: _without_prefixes(key) for key in keys}
    form = next((form for form in FORMS if form.recognizes(bare.values())), None)
    renamed: dict[str, str | None] = {}
    source_of: dict[str, str] = {}
    for key, name in bare.items():
        if _WITHOUT_CONTENT.fullmatch(name):
            renamed[key] = None
            continue
        ours = form.ours(name) if form else name
        if ours in source_of:
            raise InputError(f"{source_of[ours]} and {key} are the same weight, {ours}; keep one of them")
        renamed[key] = ours
        source_of[ours] = key
    return Renaming(form, renamed)


def _without_prefixes(key: str) -> str:
    match = _PREFIXES.match(key)
    return key[match.end() :] if match else key


def _module(key: str) -> str:
    return key.rpartition(".")[0]


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """The names that a template stands for, with its numbers as groups."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[0-9]{1,4})", re.escape(template)))
