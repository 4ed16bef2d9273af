"""Keras' own DenseNets and small ones of our making, with random weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported, which would look for TensorFlow

import keras
import numpy as np
from keras import layers
from keras.src.applications.densenet import DenseNet


def randomized(model: Any) -> Any:
    """The model with other numbers in every tensor, so that no two can be taken for one another."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.random(value.shape, np.float32) + np.float32(0.1) for value in model.get_weights()]
    )
    return model


def published_kind(include_top: bool = True) -> Any:
    """A network of keras.applications.densenet, with fewer layers."""
    inputs = (32, 32, 3)
    model = DenseNet([2, 1, 1, 1], include_top=include_top, weights=None, classes=5, input_shape=inputs)
    return randomized(model)


def _dense_layer(x: Any, growth: int, new_first: bool, convolution: Any, norm: Any) -> Any:
    new = layers.ReLU()(norm()(x))
    new = convolution(growth, 3, padding="same", use_bias=False)(new)
    return layers.Concatenate()([new, x] if new_first else [x, new])


def small_model(dims: int = 2, new_first: bool = False, activation: str = "relu", **norm: Any) -> Any:
    """A DenseNet of CIFAR's form with two blocks, for signals, images or volumes of 8 pixels a side."""
    keras.utils.clear_session()
    convolution = getattr(layers, f"Conv{dims}D")
    pool = getattr(layers, f"AveragePooling{dims}D")
    mean = getattr(layers, f"GlobalAveragePooling{dims}D")

    def own_norm() -> Any:
        return layers.BatchNormalization(epsilon=2e-5, **norm)

    inputs = layers.Input((*[8] * dims, 3))
    x = convolution(4, 3, padding="same", use_bias=False)(inputs)
    for _ in range(2):
        x = _dense_layer(x, 2, new_first, convolution, own_norm)
    x = convolution(3, 1, use_bias=False)(layers.Activation(activation)(own_norm()(x)))
    x = pool(2)(x)
    x = _dense_layer(x, 2, new_first, convolution, own_norm)
    x = mean()(layers.ReLU()(own_norm()(x)))
    return randomized(keras.Model(inputs, layers.Dense(5)(x)))


def save(model: Any, path: Path) -> Path:
    """Write a model, or only its weights where the name ends so."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def torch_tensors(layer: Any) -> dict[str, np.ndarray]:
    """A layer's tensors in PyTorch's names and layout, by Keras' own attributes."""
    values = {name: getattr(layer, name, None) for name in ("kernel", "bias", "gamma", "beta")}
    values |= {name: getattr(layer, name, None) for name in ("moving_mean", "moving_variance")}
    names = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
    names |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    found = {}
    for name, value in values.items():
        if value is not None:
            array = keras.ops.convert_to_numpy(value)
            if name == "kernel":
                array = np.moveaxis(array, (-1, -2), (0, 1))
            found[names.get(name, name)] = array
    return found
