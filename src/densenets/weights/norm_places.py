"""Which batch norm of a file belongs to which convolution of a DenseNet, by order and channels.

The norm of each convolution has as many channels as it reads; the norms stand in the order of the
convolutions. Beside those are the stem's, the last one, and up to four of a head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from densenets.weights.formats.file_modules import FileModule

_MOST_HEAD_NORMS = 4


@dataclass(frozen=True)
class NormPlaces:
    """The norms of a file by their places in a DenseNet.

    Attributes:
        of_convolution: id of a convolution -> the norm in front of it.
        stem: the norm behind the stem, if there is one.
        last: the norm before the classifier.
        head: those behind it.
    """

    of_convolution: dict[int, FileModule]
    stem: FileModule | None
    last: FileModule
    head: tuple[FileModule, ...]


def place_norms(
    norms: Sequence[FileModule],
    before_all: int,
    needed: Sequence[FileModule],
    stem: FileModule | None,
    features: int,
) -> NormPlaces | None:
    """The norms one for one beside the convolutions that need them; None if they do not fit.

    Of several places that fit, the stem's norm takes the first and the last norm the last.

    Args:
        norms: of the file, in its order.
        before_all: how many of them stand before the first convolution.
        needed: the convolutions that have a norm in front of them, in the file's order.
        stem: the first convolution, if it has a norm behind it.
        features: channels of the last norm.
    """
    sizes = [module.channels for module in needed]
    stem_places: list[int | None] = [None]
    if stem is not None:
        stem_places = [i for i, norm in enumerate(norms) if norm.channels == stem.weight.shape[0]]
    last_places = [i for i, norm in enumerate(norms) if norm.channels == features]
    for last in reversed(last_places):
        for stem_place in stem_places:
            rest = [i for i in range(len(norms)) if i not in (last, stem_place)]
            extra = len(rest) - len(needed)
            if last == stem_place or not 0 <= extra <= _MOST_HEAD_NORMS:
                continue
            # A head stands behind the last norm, or before it all where a file is sorted by names.
            for begin in {0, extra} if extra == before_all else {0}:
                used, head = rest[begin : begin + len(needed)], rest[begin + len(needed) :]
                if [norms[i].channels for i in used] != sizes or any(i < last for i in head):
                    continue
                return NormPlaces(
                    of_convolution={id(conv): norms[i] for conv, i in zip(needed, used, strict=True)},
                    stem=None if stem_place is None else norms[stem_place],
                    last=norms[last],
                    head=tuple(norms[i] for i in (*rest[:begin], *head)),
                )
    return None


def why_unplaced(norms: Sequence[FileModule], needed: Sequence[FileModule], features: int) -> str:
    """Which norm is missing or too many, for people; the arguments are those of `place_norms`."""
    have = Counter(norm.channels for norm in norms)
    want = Counter([*(module.channels for module in needed), features])
    extra = next((norm for norm in norms if have[norm.channels] > want[norm.channels]), None)
    lacking = next((module for module in needed if have[module.channels] < want[module.channels]), None)
    missing = ""
    if lacking is not None:
        missing = f"a batch norm of {lacking.channels} channels, such as that of {lacking.shown}, is missing"
    elif have[features] < want[features]:
        missing = f"the last batch norm, of {features} channels, is missing"
    if extra is not None:
        odd = f"the batch norm {extra.shown} of {extra.channels} channels fits no convolution"
        return f"{odd}, and {missing}" if missing else odd
    return missing or "its batch norms do not stand in the order of its convolutions"
