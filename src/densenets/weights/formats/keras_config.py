"""What the config of a Keras model says of its layers: their order, epsilons, and where maps are put."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densenets.errors import InputError
from densenets.weights.formats.file_modules import NewMaps
from densenets.weights.formats.maps_order import maps_order, the_order

_KINDS = re.compile(r"(Conv|MaxPooling|AveragePooling)[123]D")
_ONE = (1, *([1] * dims for dims in (1, 2, 3)))  # as configs have it
_TWO = (2, *([2] * dims for dims in (1, 2, 3)))


@dataclass(frozen=True, kw_only=True)
class ConfigLayer:
    """A layer of a config.

    Attributes:
        name: the model's name of it.
        class_name: such as "Conv2D".
        place: the groups of a weights file that it has where layers are counted by class, such as
            ("conv2d_3",), with those of the models that it lies in.
        settings: the layer's own config.
        inputs: names of the layers that it reads, in order.
        depth: of the longest path to it from an input of its model.
    """

    name: str
    class_name: str
    place: tuple[str, ...]
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    depth: int

    @property
    def epsilon(self) -> float | None:
        """Of a norm."""
        value = self.settings.get("epsilon")
        return float(value) if isinstance(value, int | float) else None

    @property
    def norm_roles(self) -> tuple[str, ...]:
        """Keras' names of a norm's tensors, in the order of a file that only counts them."""
        own = (("gamma", "scale"), ("beta", "center"))
        learned = (role for role, setting in own if self.settings.get(setting, True))
        return (*learned, "moving_mean", "moving_variance")


def config_layers(config: object) -> list[ConfigLayer]:
    """The layers of a model and of the models inside of it, in the model's order; empty for other configs."""
    return list(_layers(config, ()))


def _layers(config: object, place: tuple[str, ...]) -> Iterator[ConfigLayer]:
    counts: Counter[str] = Counter()
    depths: dict[str, int] = {}
    for layer in _inner_layers(config):
        settings = layer.get("config")
        class_name = str(layer.get("class_name"))
        settings = settings if isinstance(settings, dict) else {}
        name = str(layer.get("name") or settings.get("name"))
        stem = _snake_case(class_name)
        own_place = (*place, f"{stem}_{counts[stem]}" if counts[stem] else stem)
        counts[stem] += 1
        inputs = tuple(_input_names(layer.get("inbound_nodes")))
        depths[name] = 1 + max((depths.get(input_name, 0) for input_name in inputs), default=-1)
        if _inner_layers(layer):
            yield from _layers(layer, own_place)
        else:
            yield ConfigLayer(
                name=name,
                class_name=class_name,
                place=own_place,
                settings=settings,
                inputs=inputs,
                depth=depths[name],
            )


def _inner_layers(model: object) -> list[dict[str, Any]]:
    config = model.get("config") if isinstance(model, dict) else None
    # A Sequential of early versions is a list itself.
    layers = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(layers, list):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


def _input_names(nodes: object) -> Iterator[str]:
    """Names of the layers that a layer reads when it is first called.

    Keras 2 lists [name, node, tensor, arguments] of each, Keras 3 has objects with a "keras_history".
    """
    if isinstance(nodes, list) and nodes:
        waiting = [nodes[0]]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str):
                yield value[0]
            elif isinstance(value, dict):
                waiting.extend(reversed([own for key, own in value.items() if key != "shape"]))
            elif isinstance(value, list):
                waiting.extend(reversed(value))


def _snake_case(name: str) -> str:
    """A class' name as groups of weights have it: batch_normalization for BatchNormalization."""
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()


def new_maps(layers: Sequence[ConfigLayer]) -> NewMaps | None:
    """Whether a layer's new maps stand before or behind the older ones; None if nothing is concatenated.

    Raises:
        InputError: they stand now here and now there.
    """
    depths = {layer.name: layer.depth for layer in layers}
    return the_order(
        maps_order([depths.get(name, 0) for name in layer.inputs], layer.name)
        for layer in layers
        if layer.class_name == "Concatenate"
    )


def check_function(layers: Sequence[ConfigLayer]) -> None:
    """Check, as far as a config says it, that a model computes what a DenseNet of its weights does.

    Raises:
        InputError: an activation is another one or is missing, or a layer pads or pools in another way.
    """
    by_name = {layer.name: layer for layer in layers}
    for layer in layers:
        before = [by_name[name] for name in layer.inputs if name in by_name]
        if reason := _other_function(layer, before):
            raise InputError(f"{layer.name:.200} {reason}: that is another function than a DenseNet's")


def _other_function(layer: ConfigLayer, before: Sequence[ConfigLayer]) -> str | None:
    """What a layer computes otherwise, as the rest of a sentence that begins with its name."""
    settings, kind = layer.settings, _KINDS.fullmatch(layer.class_name)
    if layer.class_name in ("Activation", "ReLU"):
        plain = settings.get("activation", "relu") in ("relu", "linear", "softmax", "sigmoid")
        limits = ("max_value", "negative_slope", "threshold")
        return None if plain and not any(settings.get(name) for name in limits) else "is no plain ReLU"
    if kind is None:
        return None
    if kind[1] == "AveragePooling":
        is_half = settings.get("pool_size") in _TWO and settings.get("strides") in _TWO
        return None if is_half else "does not average over pixels by two and two"
    if kind[1] == "Conv" and settings.get("activation") not in (None, "linear"):
        return "has an activation behind its convolution"
    if kind[1] == "Conv" and any(own.class_name == "BatchNormalization" for own in before):
        return "reads a norm without an activation between"
    sizes = settings.get("kernel_size" if kind[1] == "Conv" else "pool_size")
    padded = [own.settings.get("padding") for own in before if own.class_name.startswith("ZeroPadding")]
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        return None
    if settings.get("padding") == "same":
        is_strided = settings.get("strides") not in _ONE
        return "has strides and 'same' padding, which is not the same on both sides" if is_strided else None
    if padded:
        wanted = [[size // 2, size // 2] for size in sizes]
        return None if _as_lists(padded[0]) in (wanted, wanted[0]) else "has another padding"
    return None if all(size == 1 for size in sizes) else "has no padding"


def _as_lists(padding: object) -> object:
    """A padding as one list a side, or one pair for a signal."""
    return padding if isinstance(padding, list) else [padding, padding]
