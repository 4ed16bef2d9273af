"""Conversion of the state-dict keys of other DenseNet programs to torchvision's, which are ours. No PyTorch.

A new form of keys is one more entry of `FORMS`: a table of names, and which of them only that form has.
Forms may differ in names only: a program that concatenates a layer's maps in front of the older ones, say,
computes another function with weights of the same shapes, and cannot be such an entry.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from densenets.errors import InputError

BATCH_COUNTER = "num_batches_tracked"  # of a BN, which needs it only where its momentum is None

_PREFIXES = re.compile(r"(?:module\.|model\.|_orig_mod\.|net\.|backbone\.)*")
# Keys that tools leave in a state dict: the number of averaged models (torch.optim.swa_utils), thop's counts.
_WITHOUT_CONTENT = re.compile(r"n_averaged|(?:.+\.)?total_(?:ops|params)")

_DENSE_LAYER = "features.denseblock{block}.denselayer{layer}"


@dataclass(frozen=True, kw_only=True)
class KeyForm:
    """One program's names for the modules of a DenseNet.

    A name is a template: {block}, {layer} and {unit} stand for numbers. The names of a module's tensors
    (weight, running_mean, ...) are the same everywhere. A module that the table lacks has torchvision's name.

    Attributes:
        name: of the form, for people.
        modules: (the program's name, torchvision's) of every module whose names differ.
        marks: names that only this form has; a file has this form if it has a module of each.
        from_zero: the numbers that the program counts from 0; torchvision's all count from 1.
    """

    name: str
    marks: tuple[str, ...]
    modules: tuple[tuple[str, str], ...] = ()
    from_zero: frozenset[str] = field(default_factory=frozenset)

    def recognizes(self, keys: Iterable[str]) -> bool:
        """Whether these are keys of this form."""
        modules = {_module(key) for key in keys}
        return all(any(_pattern(mark).fullmatch(module) for module in modules) for mark in self.marks)

    def to_torchvision(self, key: str) -> str:
        """torchvision's name for a key of this form."""
        return self._translated(key, self.modules, shift=1)

    def from_torchvision(self, key: str) -> str:
        """This form's name for a key of torchvision's."""
        return self._translated(key, [(standard, own) for own, standard in self.modules], shift=-1)

    def _translated(self, key: str, table: Iterable[tuple[str, str]], *, shift: int) -> str:
        module = _module(key)
        for name, other_name in table:
            if match := _pattern(name).fullmatch(module):
                numbers = {
                    field: int(number) + (shift if field in self.from_zero else 0)
                    for field, number in match.groupdict().items()
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
    """The form of a file's keys, and the new name of each.

    Attributes:
        form: of a DenseNet's keys; None if the file holds no DenseNet in a known form.
        keys: each key of the file -> torchvision's; None for one that is known to hold no weight.
    """

    form: KeyForm | None
    keys: dict[str, str | None]

    def file_key(self, key: str) -> str:
        """The file's name for a key of torchvision's; if it lacks that key, the name that it should have."""
        for source, renamed in self.keys.items():
            if renamed == key:
                return source
        return self.form.from_torchvision(key) if self.form else key


def rename_keys(keys: Iterable[str]) -> Renaming:
    """Recognise the form of a file's keys, and give each torchvision's name.

    Prefixes that wrappers leave (`module.` and such) are removed. A key that the form does not know stays.

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
        new_name = form.to_torchvision(name) if form else name
        if new_name in source_of:
            raise InputError(
                f"{source_of[new_name]} and {key} are the same weight, {new_name}; keep one of them"
            )
        renamed[key] = new_name
        source_of[new_name] = key
    return Renaming(form, renamed)


def _without_prefixes(key: str) -> str:
    match = _PREFIXES.match(key)
    return key[match.end() :] if match else key


def _module(key: str) -> str:
    return key.rpartition(".")[0]


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression for the names of a template, with its numbers as groups."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[0-9]{1,4})", re.escape(template)))
