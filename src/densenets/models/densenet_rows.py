"""Layer rows of a DenseNet, computed from its config.

They count in the paper's order: a transition convolves, then pools.
Needs no PyTorch.

Shapes: C channels of a map, pixels the product of its sides.
"""

from __future__ import annotations

import math

from densenets.models.densenet_config import BlockChannels, DenseNetConfig
from densenets.models.layer_rows import LayerRow, LayerTable

_FLOAT_BYTES, _INDEX_BYTES, _WINNER_BYTES = 4, 8, 1


def densenet_rows(config: DenseNetConfig, sides: tuple[int, ...]) -> list[LayerRow]:
    """The rows of a whole DenseNet for images of the given sides, in pixels."""
    layers = [_stem(config, sides)]
    size = tuple(config.stem_size(side) for side in sides)
    for block in config.blocks():
        layers += _block(config, block, size)
        if block.number < len(config.block_layers):
            layers.append(_transition(block, size))
            size = tuple(side // 2 for side in size)
    return [*layers, _last_norm(config, size), _classifier(config)]


def block_table(
    in_channels: int, layers: int, growth_rate: int, sides: tuple[int, ...], *, bottleneck: bool
) -> LayerTable:
    """The layer table of one dense block with a transition without compression, apart from any network.

    Raises:
        InputError: a number is out of its range.
    """
    config = block_config(in_channels, layers, growth_rate, len(sides), bottleneck=bottleneck)
    block = config.blocks()[0]
    rows = (*_block(config, block, sides), _transition(block, sides))
    return LayerTable(name="dense-block", input_shape=(in_channels, *sides), layers=rows)


def block_config(
    in_channels: int, layers: int, growth_rate: int, dims: int, *, bottleneck: bool
) -> DenseNetConfig:
    """The config of a network of one dense block, whose input is the stem's output, without compression.

    Raises:
        InputError: a number is out of its range.
    """
    return DenseNetConfig(
        block_layers=(layers,),
        growth_rate=growth_rate,
        bottleneck=bottleneck,
        compression=1.0,
        stem="cifar",
        stem_channels=in_channels,
        spatial_dims=dims,
    )


def _stem(config: DenseNetConfig, sides: tuple[int, ...]) -> LayerRow:
    large = config.stem == "imagenet"
    kernel = (7 if large else 3) ** config.spatial_dims
    convolved = tuple(math.ceil(side / 2) for side in sides) if large else sides
    size = tuple(config.stem_size(side) for side in sides)
    channels = config.stem_channels
    weights = kernel * config.in_channels * channels
    image = _FLOAT_BYTES * config.in_channels * math.prod(sides)
    # BN's input, ReLU's result, and the places of the maxima.
    stored = _FLOAT_BYTES * 2 * channels * math.prod(convolved) if large else 0
    stored += _INDEX_BYTES * channels * math.prod(size) if large else 0
    # The block's input: the reference stores the concatenations that it is copied into instead.
    feature = _FLOAT_BYTES * channels * math.prod(size)
    # The convolution's result, and a byte for each maximum.
    fused = _FLOAT_BYTES * channels * math.prod(convolved) if large else 0
    fused += _WINNER_BYTES * channels * math.prod(size) if large else 0
    return LayerRow(
        name="stem",
        size=size,
        in_channels=config.in_channels,
        new_channels=channels,
        out_channels=channels,
        parameters=weights + (2 * channels if large else 0),
        multiply_adds=weights * math.prod(convolved),
        stored_reference=image + stored,
        stored_recompute=image + stored + feature,
        stored_fused=image + fused + feature,
        stored_fused_lean=image + feature,
    )


def _block(config: DenseNetConfig, block: BlockChannels, size: tuple[int, ...]) -> list[LayerRow]:
    k, pixels = config.growth_rate, math.prod(size)
    kernel = 3**config.spatial_dims
    width = config.bottleneck_channels
    rows = []
    for number, in_channels in enumerate(block.layer_in_channels, start=1):
        if config.bottleneck:
            weights = in_channels * width + kernel * width * k
            norms = 2 * in_channels + 2 * width
        else:
            weights, norms = kernel * in_channels * k, 2 * in_channels
        # Each BN stores its input, each ReLU its result; recomputed, the first pair is the maps themselves.
        second = 2 * width if config.bottleneck else 0
        rows.append(
            LayerRow(
                name=f"denseblock{block.number}.denselayer{number}",
                size=size,
                in_channels=in_channels,
                new_channels=k,
                out_channels=in_channels + k,
                connections=number,
                parameters=weights + norms,
                multiply_adds=weights * pixels,
                stored_reference=_FLOAT_BYTES * pixels * (2 * in_channels + second),
                # The last layer's maps are stored only as a part of the block's result.
                stored_recompute=_FLOAT_BYTES * pixels * (k * (number < block.layers) + second),
                stored_fused=_FLOAT_BYTES * pixels * (k + (width if config.bottleneck else 0)),
                stored_fused_lean=_FLOAT_BYTES * pixels * k,
            )
        )
    return rows


def _transition(block: BlockChannels, size: tuple[int, ...]) -> LayerRow:
    in_channels, out_channels = block.out_channels, block.transition_out_channels
    pixels = math.prod(size)
    pooled = tuple(side // 2 for side in size)
    # The pooled maps are the next block's input, which only recompute stores as such.
    feature = _FLOAT_BYTES * out_channels * math.prod(pooled)
    return LayerRow(
        name=f"transition{block.number}",
        size=pooled,
        in_channels=in_channels,
        new_channels=out_channels,
        out_channels=out_channels,
        parameters=in_channels * out_channels + 2 * in_channels,
        multiply_adds=in_channels * out_channels * pixels,
        stored_reference=_FLOAT_BYTES * pixels * (2 * in_channels + out_channels),
        stored_recompute=_FLOAT_BYTES * pixels * (in_channels + out_channels) + feature,
        # Its input is the block's buffer, which is stored anyway.
        stored_fused=feature,
        stored_fused_lean=feature,
    )


def _last_norm(config: DenseNetConfig, size: tuple[int, ...]) -> LayerRow:
    channels = config.num_features
    stored = _FLOAT_BYTES * 2 * channels * math.prod(size)
    return LayerRow(
        name="norm5",
        size=size,
        in_channels=channels,
        new_channels=channels,
        out_channels=channels,
        parameters=2 * channels,
        multiply_adds=0,
        stored_reference=stored,
        stored_recompute=stored,
        stored_fused=stored // 2,  # its input is the last block's buffer
        stored_fused_lean=stored // 2,
    )


def _classifier(config: DenseNetConfig) -> LayerRow:
    channels, classes = config.num_features, config.num_classes
    return LayerRow(
        name="classifier",
        size=(1,) * config.spatial_dims,
        in_channels=channels,
        new_channels=classes,
        out_channels=classes,
        parameters=channels * classes + classes,
        multiply_adds=channels * classes,
        stored_reference=_FLOAT_BYTES * channels,
        stored_recompute=_FLOAT_BYTES * channels,
        stored_fused=_FLOAT_BYTES * channels,
        stored_fused_lean=_FLOAT_BYTES * channels,
    )
