"""What a value of the heat map of feature reuse is. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from densenets.errors import InputError

Normalization = Literal["mean", "l1", "share", "largest"]

NORMALIZATIONS: dict[Normalization, str] = {
    "mean": "mean absolute weight of the connection",
    "l1": "sum of absolute weights by the number of maps that the source gives",
    "share": "sum of absolute weights by that of all sources of the layer",
    "largest": "mean absolute weight by the largest of the layer's sources",
}
assert set(NORMALIZATIONS) == set(get_args(Normalization))


@dataclass(frozen=True, kw_only=True)
class ReuseConfig:
    """The heat map of feature reuse (paper, Fig. 5) of a trained DenseNet.

    Raises:
        InputError: the normalisation is unknown.
    """

    normalization: Normalization = "mean"
    """What a value is; l1: sum by the source's maps; share: of the layer's sum; largest: by its largest."""
    with_scale: bool = False
    """Multiply weights by the scale of the batch normalisation before them."""

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise InputError(
                f"normalization must be one of {', '.join(NORMALIZATIONS)}, got '{self.normalization}'"
            )
