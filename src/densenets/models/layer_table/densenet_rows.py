"""A DenseNet layer by layer: channels, parameters, multiply-adds, memory, connections.

Arithmetic on the config alone, in the paper's order of counting (a transition convolves, then pools).
Needs no PyTorch.

Shapes: C channels of a map, pixels the product of its sides.
"""

from __future__ import annotations

import math

from densenets.models.densenet_config import BlockChannels, DenseNetConfig
from densenets.models.layer_table.rows import LayerFacts, NetworkFacts

_FLOAT_BYTES, _INDEX_BYTES, _WINNER_BYTES = 4, 8, 1


def densenet_layers(config: DenseNetConfig, sides: tuple[int, ...]) -> list[LayerFacts]:
    """The rows of a whole network for images of the given sides."""
    layers = [_stem(config, sides)]
    size = tuple(config.stem_size(side) for side in sides)
    for block in config.blocks():
        layers += _block(config, block, size)
        if block.number < len(config.block_layers):
            layers.append(_transition(block, size))
            size = tuple(side // 2 for side in size)
    return [*layers, _last_norm(config, size), _classifier(config)]


def block_facts(
    in_channels: int, layers: int, growth_rate: int, sides: tuple[int, ...], *, bottleneck: bool
) -> NetworkFacts:
    """The facts of one dense block alone, and of a transition without compression that reads all of it.

    Raises:
        InputError: a number is out of its range.
    """
    config = DenseNetConfig(
        block_layers=(layers,),
        growth_rate=growth_rate,
        bottleneck=bottleneck,
        compression=1.0,
        stem="cifar",
        stem_channels=in_channels,
        spatial_dims=len(sides),
    )
    block = config.blocks()[0]
    rows = (*_block(config, block, sides), _transition(block, sides))
    return NetworkFacts(name="dense-block", input_shape=(in_channels, *sides), layers=rows)


def _stem(config: DenseNetConfig, sides: tuple[int, ...]) -> LayerFacts:
    large = config.stem == "imagenet"
    kernel = (7 if large else 3) ** config.spatial_dims
    convolved = tuple(math.ceil(side / 2) for side in sides) if large else sides
    size = tuple(config.stem_size(side) for side in sides)
    channels = config.stem_channels
    weights = kernel * config.in_channels * channels
    image = _FLOAT_BYTES * config.in_channels * math.prod(sides)
    # BN's input, ReLU's result, and where the maxima were.
    stored = _FLOAT_BYTES * 2 * channels * math.prod(convolved) if large else 0
    stored += _INDEX_BYTES * channels * math.prod(size) if large else 0
    # The block's input: the reference stores the concatenations that it is copied into instead.
    feature = _FLOAT_BYTES * channels * math.prod(size)
    # The convolution's result, and a byte for each maximum.
    fused = _FLOAT_BYTES * channels * math.prod(convolved) if large else 0
    fused += _WINNER_BYTES * channels * math.prod(size) if large else 0
    return LayerFacts(
        name="stem",
        size=size,
        reads=config.in_channels,
        adds=channels,
        hands_on=channels,
        parameters=weights + (2 * channels if large else 0),
        multiply_adds=weights * math.prod(convolved),
        stored_reference=image + stored,
        stored_recompute=image + stored + feature,
        stored_fused=image + fused + feature,
        stored_fused_lean=image + feature,
    )


def _block(config: DenseNetConfig, block: BlockChannels, size: tuple[int, ...]) -> list[LayerFacts]:
    k, pixels = config.growth_rate, math.prod(size)
    kernel = 3**config.spatial_dims
    width = config.bottleneck_channels
    rows = []
    for number, reads in enumerate(block.reads, start=1):
        if config.bottleneck:
            weights = reads * width + kernel * width * k
            norms = 2 * reads + 2 * width
        else:
            weights, norms = kernel * reads * k, 2 * reads
        # Of each BN its input, of each ReLU its result; recomputed, the first pair is the maps themselves.
        second = 2 * width if config.bottleneck else 0
        rows.append(
            LayerFacts(
                name=f"denseblock{block.number}.denselayer{number}",
                size=size,
                reads=reads,
                adds=k,
                hands_on=reads + k,
                connections=number,
                parameters=weights + norms,
                multiply_adds=weights * pixels,
                stored_reference=_FLOAT_BYTES * pixels * (2 * reads + second),
                # The last layer's maps are kept as a part of the block's result alone.
                stored_recompute=_FLOAT_BYTES * pixels * (k * (number < block.layers) + second),
                stored_fused=_FLOAT_BYTES * pixels * (k + (width if config.bottleneck else 0)),
                stored_fused_lean=_FLOAT_BYTES * pixels * k,
            )
        )
    return rows


def _transition(block: BlockChannels, size: tuple[int, ...]) -> LayerFacts:
    reads, handed_on, pixels = block.out_channels, block.handed_on, math.prod(size)
    pooled = tuple(side // 2 for side in size)
    # The pooled maps are the next block's input, which only recompute stores as such.
    feature = _FLOAT_BYTES * handed_on * math.prod(pooled)
    return LayerFacts(
        name=f"transition{block.number}",
        size=pooled,
        reads=reads,
        adds=handed_on,
        hands_on=handed_on,
        parameters=reads * handed_on + 2 * reads,
        multiply_adds=reads * handed_on * pixels,
        stored_reference=_FLOAT_BYTES * pixels * (2 * reads + handed_on),
        stored_recompute=_FLOAT_BYTES * pixels * (reads + handed_on) + feature,
        # It reads the block's buffer, which is kept anyway.
        stored_fused=feature,
        stored_fused_lean=feature,
    )


def _last_norm(config: DenseNetConfig, size: tuple[int, ...]) -> LayerFacts:
    channels = config.num_features
    stored = _FLOAT_BYTES * 2 * channels * math.prod(size)
    return LayerFacts(
        name="norm5",
        size=size,
        reads=channels,
        adds=channels,
        hands_on=channels,
        parameters=2 * channels,
        multiply_adds=0,
        stored_reference=stored,
        stored_recompute=stored,
        stored_fused=stored // 2,  # its input is the last block's buffer
        stored_fused_lean=stored // 2,
    )


def _classifier(config: DenseNetConfig) -> LayerFacts:
    channels, classes = config.num_features, config.num_classes
    return LayerFacts(
        name="classifier",
        size=(1,) * config.spatial_dims,
        reads=channels,
        adds=classes,
        hands_on=classes,
        parameters=channels * classes + classes,
        multiply_adds=channels * classes,
        stored_reference=_FLOAT_BYTES * channels,
        stored_recompute=_FLOAT_BYTES * channels,
        stored_fused=_FLOAT_BYTES * channels,
        stored_fused_lean=_FLOAT_BYTES * channels,
    )
