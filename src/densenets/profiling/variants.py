"""Variants of a network's step that are compared: torchvision's and ours. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from densenets.errors import unknown_name
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network_config import NetworkConfig
from densenets.ops.execution import EXECUTIONS, Execution
from densenets.profiling.step import Precision

_BFLOAT16 = "-bf16"
_PLAIN, _CHANNELS_LAST = "torchvision", "torchvision-channels-last"
_MEMORY_EFFICIENT, _COMPILE = "torchvision-memory-efficient", "torchvision-compile"
_TORCHVISION = (_PLAIN, _CHANNELS_LAST, _MEMORY_EFFICIENT, _COMPILE)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a network.

    Attributes:
        base: one of torchvision's, or the name of one of our executions.
        precision: bfloat16 is float32 under autocast.
    """

    base: str
    precision: Precision

    @property
    def name(self) -> str:
        """As tables and the command line call it."""
        return self.base + (_BFLOAT16 if self.precision == "bfloat16" else "")

    @property
    def is_torchvision(self) -> bool:
        """Whether it runs torchvision's network; ours otherwise."""
        return self.base in _TORCHVISION

    @property
    def step_fields(self) -> dict[str, Any]:
        """The fields of a `StepConfig` in which the variants of a network differ."""
        if not self.is_torchvision:
            return {"precision": self.precision, "execution": cast(Execution, self.base)}
        return {
            "precision": self.precision,
            "implementation": "torchvision",
            "channels_last": self.base == _CHANNELS_LAST,
            "memory_efficient": self.base == _MEMORY_EFFICIENT,
            "compiled": self.base == _COMPILE,
        }


def named_variant(name: str) -> Variant:
    """The variant of a name such as "torchvision-bf16" or "recompute".

    Raises:
        InputError: nothing has this name.
    """
    base = name.removesuffix(_BFLOAT16)
    known = (*_TORCHVISION, *_our_executions())
    if base not in known:
        raise unknown_name("variant", name, [*known, *(known_base + _BFLOAT16 for known_base in known)])
    return Variant(base=base, precision="float32" if base == name else "bfloat16")


def default_variants(
    network: NetworkConfig, precisions: tuple[Precision, ...], *, compiled: bool
) -> tuple[str, ...]:
    """The names of all variants that a network has, precision by precision.

    Args:
        network: what is run.
        precisions: which are measured.
        compiled: whether torch.compile, which can take minutes, is among them.
    """
    torchvision = _TORCHVISION if compiled else _TORCHVISION[:-1]
    variants = [
        Variant(base=base, precision=precision)
        for precision in precisions
        for base in (*torchvision, *_our_executions())
    ]
    return tuple(variant.name for variant in variants if not refusal(network, variant))


def refusal(network: NetworkConfig, variant: Variant) -> str:
    """Why a network cannot run as a variant, in one line; empty if it can."""
    if variant.is_torchvision:
        return torchvision_refusal(network)
    if variant.base == "reference" or isinstance(network, DenseNetConfig):
        return ""
    return f"a {network.title} has no dense blocks; only reference runs it"


def torchvision_refusal(network: NetworkConfig) -> str:
    """Why torchvision has no such network to compare with, in one line; empty if it has."""
    if not isinstance(network, DenseNetConfig):
        return f"of torchvision's networks DenseNets alone are compared, and this is a {network.title}"
    if network.spatial_dims != 2:
        return f"torchvision's DenseNet has 2 spatial dimensions, not {network.spatial_dims}"
    if not network.bottleneck:
        return "torchvision's DenseNet always has a bottleneck"
    if network.compression != 0.5:
        return f"torchvision's DenseNet has compression 0.5, not {network.compression:g}"
    if network.dropout:
        return "torchvision's DenseNet has its dropout at other places"
    return ""


def _our_executions() -> tuple[str, ...]:
    return tuple(execution for execution in EXECUTIONS if execution != "auto")
