"""The door to the dense block: one signature, and the executions that stand behind it.

An execution decides what is stored and when it is computed. It never touches the weights: all of them
read the same modules, so a checkpoint does not show which one trained it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densenets.ops.execution import Execution, choose_execution
from densenets.ops.layers import DenseLayerModules
from densenets.ops.recompute import recomputed_dense_block
from densenets.ops.reference import reference_dense_block


def dense_block(x: Tensor, layers: Sequence[DenseLayerModules], execution: Execution) -> Tensor:
    """Run a dense block (paper, eq. 2): N x C0 x *sides -> N x (C0 + L k) x *sides.

    Channels come in the order in which they were made: the block's input, then layer by layer.
    """
    if choose_execution(execution) == "recompute":
        return recomputed_dense_block(x, layers)
    return reference_dense_block(x, layers)
