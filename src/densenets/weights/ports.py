"""Programs whose DenseNets are known by the names of their keys, and what their files do not say.

A DenseNet is recognised without its names (`densenets.weights.structure`). These tell only what neither
shapes nor statistics do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from densenets.weights.formats.file_modules import NewMaps


@dataclass(frozen=True, kw_only=True)
class Port:
    """A program that has DenseNets.

    Attributes:
        name: of the program, for people.
        marks: parts of keys, as regular expressions; a file is of this program if it has a key of each.
        new_maps: where its dense layers put their new maps, first or last.
        epsilon: of its norms.
    """

    name: str
    marks: tuple[str, ...]
    new_maps: NewMaps = "last"
    epsilon: float = 1e-5

    def wrote(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys may be the program's."""
        names = list(keys)
        return all(any(re.search(mark, name) for name in names) for mark in self.marks)


# As their sources stood; the first that fits is taken.
PORTS = (
    Port(name="MONAI", marks=(r"denseblock\d+\.denselayer\d+\.layers\.norm1\.",)),
    # torchvision's module with another name for the last norm.
    Port(
        name="gpleiss/efficient_densenet_pytorch",
        marks=(r"denseblock\d+\.denselayer\d+\.norm1\.", r"features\.norm_final\."),
    ),
    # timm, torchxrayvision and many others have torchvision's module too.
    Port(name="torchvision", marks=(r"denseblock\d+\.denselayer\d+\.norm1\.",)),
    Port(name="torchvision's older files", marks=(r"denseblock\d+\.denselayer\d+\.norm\.1\.",)),
    Port(name="andreasveit/densenet-pytorch", marks=(r"block\d+\.layer\.\d+\.bn1\.", r"trans\d+\.bn1\.")),
    Port(name="bamos/densenet.pytorch", marks=(r"dense\d+\.\d+\.bn1\.", r"trans\d+\.bn1\.")),
    Port(
        name="kuangliu/pytorch-cifar",
        marks=(r"dense\d+\.\d+\.bn1\.", r"trans\d+\.bn\."),
        new_maps="first",
    ),
    Port(name="osmr/pytorchcv", marks=(r"stage\d+\.unit\d+\.conv1\.bn\.",)),
    Port(name="open-mmlab/mmpretrain", marks=(r"stages\.\d+\.block\.\d+\.norm1\.",)),
    Port(name="Keras", marks=(r"conv\d+_block\d+_1_bn",), epsilon=1.001e-5),
)


def known_port(keys: Iterable[str]) -> Port | None:
    """The program that wrote a file with these keys; None for one that is not known."""
    names = list(keys)
    return next((port for port in PORTS if port.wrote(names)), None)
