"""FractalNets, with drop-path and without: the authors' and any other of their form. Needs no PyTorch.

The errors are those of the DenseNet paper's Table 2, in percent; nothing here was measured by this
project.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from densenets.errors import InputError
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.fractalnet_rows import fractalnet_rows
from densenets.models.registry.entry import Architecture, Family
from densenets.models.registry.rules import DEPTH_AND_WIDTH, table2

if TYPE_CHECKING:
    import torch

    from densenets.models.baselines.fractalnet import FractalNet
    from densenets.ops.execution import Execution

_BLOCKS = 5
_DROPOUT = (0.0, 0.1, 0.2, 0.3, 0.4)  # a probability a block


def _fractalnet(depth: int, channels: int = 64, *, drop_path: bool) -> FractalNetConfig:
    """Larsson et al. 2017, section 4: five blocks, channels doubled to eight times the first block's.

    Raises:
        InputError: no number of columns gives this depth.
    """
    columns = (depth // _BLOCKS).bit_length()
    if columns < 1 or depth != _BLOCKS * 2 ** (columns - 1):
        raise InputError(f"depth must be 5, 10, 20, 40, 80, ... (5 blocks of 2^n layers), got {depth}")
    return FractalNetConfig(
        columns=columns,
        block_channels=tuple(factor * channels for factor in (1, 2, 4, 8, 8)),
        block_dropout=_DROPOUT if drop_path else (0.0,) * _BLOCKS,
        local_drop_path=0.15 if drop_path else 0.0,
        global_drop_path=0.5 if drop_path else 0.0,
    )


def _build(config: FractalNetConfig, _execution: Execution, generator: torch.Generator | None) -> FractalNet:
    from densenets.models.baselines.fractalnet import FractalNet

    return FractalNet(config, generator)


_FRACTALNET = Architecture(
    label="FractalNet",
    name_rules=((rf"fractalnet-{DEPTH_AND_WIDTH}", partial(_fractalnet, drop_path=False)),),
    own_recipe="fractalnet",
)
_DROP_PATH = Architecture(
    label="FractalNet, drop-path",
    name_rules=((rf"fractalnet-{DEPTH_AND_WIDTH}-drop-path", partial(_fractalnet, drop_path=True)),),
    own_recipe="fractalnet",
)

FRACTALNET_FAMILY = Family(
    config=FractalNetConfig,
    build=_build,
    layer_rows=fractalnet_rows,
    architectures=(_FRACTALNET, _DROP_PATH),
    name_forms=("fractalnet-DEPTH-CHANNELS[-drop-path]",),
    networks={
        "fractalnet-20": _FRACTALNET.entry(
            _fractalnet(20, drop_path=False), table2(10.18, 5.22, 35.34, 23.30, 2.01), 38.6
        ),
        "fractalnet-20-drop-path": _DROP_PATH.entry(
            _fractalnet(20, drop_path=True), table2(7.33, 4.60, 28.20, 23.73, 1.87), 38.6
        ),
        "fractalnet-40-16-drop-path": _DROP_PATH.entry(
            _fractalnet(40, 16, drop_path=True), printed_parameters=4.8
        ),
    },
)
