"""Highway Networks: the authors' and any other of their form. Needs no PyTorch.

The errors are those of the DenseNet paper's Table 2, in percent; nothing here was measured by this
project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.highway_rows import highway_rows
from densenets.models.registry.entry import Architecture, Family
from densenets.models.registry.rules import table2, units_of_depth

if TYPE_CHECKING:
    import torch

    from densenets.models.baselines.highway import HighwayNetwork
    from densenets.ops.execution import Execution

# The authors publish the 19 layers as a network file. Of the 32 they say only that there are about 1.25M
# parameters; half the channels and these numbers of layers give that.
_HIGHWAY_19 = HighwayConfig(stage_layers=(4, 5, 5), stage_channels=(32, 80, 128))
_HIGHWAY_32 = HighwayConfig(stage_layers=(6, 8, 13), stage_channels=(16, 40, 64))


def _highway(depth: int, width: int) -> HighwayConfig:
    """Three stages as wide as those of the 19 layers (32, 80, 128) for a width of 32, equally deep."""
    layers = units_of_depth(depth, 3, 5, least=0)
    return HighwayConfig(stage_layers=(layers,) * 3, stage_channels=(width, 5 * width // 2, 4 * width))


def _build(config: HighwayConfig, _execution: Execution, generator: torch.Generator | None) -> HighwayNetwork:
    from densenets.models.baselines.highway import HighwayNetwork

    return HighwayNetwork(config, generator)


_HIGHWAY_NETWORK = Architecture(
    label="Highway Network",
    name_rules=((r"highway-(\d{1,6})-(\d{1,6})", _highway),),
    own_recipe="highway",
)

HIGHWAY_FAMILY = Family(
    config=HighwayConfig,
    build=_build,
    layer_rows=highway_rows,
    architectures=(_HIGHWAY_NETWORK,),
    name_forms=("highway-DEPTH-WIDTH",),
    networks={
        "highway-19": _HIGHWAY_NETWORK.entry(_HIGHWAY_19, table2(None, 7.72, None, 32.39, None)),
        "highway-32": _HIGHWAY_NETWORK.entry(_HIGHWAY_32),
    },
)
