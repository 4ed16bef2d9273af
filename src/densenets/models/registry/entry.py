"""The registry's types: a family, an architecture, and a network's entry. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from densenets.models.layer_rows import LayerRow
from densenets.models.network_config import NetworkConfig

if TYPE_CHECKING:
    import torch

    from densenets.models.network import Network
    from densenets.ops.execution import Execution

Config = TypeVar("Config", bound=NetworkConfig)


@dataclass(frozen=True, kw_only=True)
class PublishedErrors:
    """Test errors in percent that a network's authors report; a data set without a figure is left out.

    Attributes:
        top1: data set -> top-1 error. "+" is standard augmentation (mirror and crop), without it none.
        source: where the figures stand.
    """

    top1: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Networks of one design, which differ in depth and width.

    Attributes:
        label: its name in figures and tables.
        name_rules: patterns of names, each with the function from the numbers in a name to its config.
        own_recipe: name of the training recipe of its own paper; "" where that is DenseNet's.
    """

    label: str
    name_rules: tuple[tuple[str, Callable[..., NetworkConfig]], ...] = ()
    own_recipe: str = ""

    def entry(
        self, config: NetworkConfig, published: PublishedErrors | None = None, printed_parameters: float = 0.0
    ) -> NetworkEntry:
        """The entry of a network of this architecture."""
        return NetworkEntry(
            config=config,
            architecture=self,
            published=published or PublishedErrors(),
            printed_parameters=printed_parameters,
        )


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """A named network: its config, its architecture and the figures published of it.

    Attributes:
        config: of its layers.
        architecture: its design, with label and recipe.
        published: the errors that its authors report.
        printed_parameters: as the DenseNet paper prints them, in millions; 0 where it prints none.
    """

    config: NetworkConfig
    architecture: Architecture
    published: PublishedErrors
    printed_parameters: float


@dataclass(frozen=True, kw_only=True)
class Family(Generic[Config]):
    """Architectures that share a config class and a module class.

    Attributes:
        config: the config class; checkpoints name the family by its `family`.
        build: a freshly initialised module of a config, an execution of its dense blocks, and the generator
            of its initial weights. PyTorch is imported inside.
        has_dense_blocks: whether the execution can be chosen.
        layer_rows: the rows of the layer table of a config, for images of the given sides.
        architectures: with the rules of their names.
        name_forms: the forms of names that the rules take, for messages.
        networks: those with an entry of their own, by name.
    """

    config: type[Config]
    build: Callable[[Config, Execution, torch.Generator | None], Network]
    has_dense_blocks: bool = False
    layer_rows: Callable[[Config, tuple[int, ...]], list[LayerRow]]
    architectures: tuple[Architecture, ...]
    name_forms: tuple[str, ...] = ()
    networks: Mapping[str, NetworkEntry]
