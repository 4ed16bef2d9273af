"""Checks of weights and logits for NaN and infinity: a softmax of NaN has a likeliest class too."""

from __future__ import annotations

from torch import Tensor, nn

from densenets.errors import NotFinite

_WHY = "broken, or so large that they overflow"


def check_weights(model: nn.Module) -> None:
    """Check that every weight and running statistic of a network is finite.

    Raises:
        NotFinite: one is not.
    """
    if (not_finite := first_not_finite(model)) is not None:
        name, value = not_finite
        count = int((~value.isfinite()).sum())
        raise NotFinite(
            f"the network's weights are broken: {count} of {value.numel()} numbers of {name} are NaN or "
            "infinite; take another checkpoint of the run, or train it again"
        )


def first_not_finite(model: nn.Module) -> tuple[str, Tensor] | None:
    """Name and tensor of the first weight or running statistic with NaN or infinity; None if none has."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            return name, value
    return None


def finite_rows(logits: Tensor) -> Tensor:
    """Mask, bool of size N, of the rows of logits (N x classes) whose values are all finite."""
    return logits.isfinite().all(dim=1)


def no_finite_logits(images: str, output: str = "logits") -> NotFinite:
    """The error for images whose logits, or other output, are NaN or infinite."""
    return NotFinite(f"the network gives {images} no finite {output}; its weights are {_WHY}")
