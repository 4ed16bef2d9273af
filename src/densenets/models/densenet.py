"""DenseNet (Huang et al. 2017, arXiv 1608.06993).

- one module for every variant: a variant is a config (`DenseNetConfig`)
- torchvision's key names, so published weights load strictly, and its `features`, up to the last BN
- dropout, initialisation and stem at the places of the official code
- one, two or three spatial dimensions; any image that is large enough for a pixel in the last block
- how a block is run (stored, recomputed or fused) is an execution, which the weights never show

Shapes: N batch, C channels, *sides the spatial sides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.errors import InputError
from densenets.models.blocks import BLOCK_CLASSES, DenseBlock, DenseLayer, Features, Transition, make_features
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.initialization import he_normal_, linear_uniform_
from densenets.models.network import Network, make_head
from densenets.ops.buffers import RestoredBuffers, copy_buffers, modules_with_buffers
from densenets.ops.dense_block import PartExecution, explain_modules
from densenets.ops.execution import Choice, Execution, check_execution

__all__ = ["DenseBlock", "DenseLayer", "DenseNet", "Features", "Transition"]


class DenseNet(Network):
    """A densely connected network: N x C x *sides -> N x classes logits.

    Args:
        config: of its layers.
        execution: how its dense blocks run: "reference" stores what autograd stores, "recompute" recomputes
            concatenations and BN-ReLU in the backward pass, "fused" needs neither, "fused-lean" recomputes
            the bottlenecks too, "auto" takes the fastest that can run.
        generator: of the initial weights; PyTorch's own without one.

    Attributes:
        features: stem, blocks, transitions, and the last BN, as torchvision's network has them.
        relu5: the last ReLU.
        classifier: the linear layer; any module that reads N x num_features can take its place.

    Raises:
        InputError: no execution has this name.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations, and does not know this one
        config: DenseNetConfig
    # Properties that torch.jit.script must not compile.
    __jit_unused_properties__ = ("execution", "feature_channels", "num_features")

    def __init__(
        self,
        config: DenseNetConfig,
        execution: Execution = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config)
        self.features: nn.Module = make_features(config)
        self.relu5 = nn.ReLU()
        self.classifier: nn.Module = make_head(config.num_features, config.num_classes)
        self.execution = execution
        self.record_structure()
        self.initialize(generator)

    @property
    def execution(self) -> Execution:
        """How the dense blocks run. May be set at any time; the weights stay."""
        return self._execution

    @execution.setter
    def execution(self, execution: Execution) -> None:
        check_execution(execution)
        self._execution: Execution = execution
        for module in self.features.modules():
            if isinstance(module, Features | DenseBlock | Transition):
                module.execution = execution

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again, as the official code does.

        Convolutions from a normal distribution with variance 2 / (kernel pixels * out_channels), which
        is He's with fan_out; BN starts at 1 and 0; the classifier's bias at 0.
        """
        for module in self.modules():
            if isinstance(module, _ConvNd):
                he_normal_(module.weight, "fan_out", generator)
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                linear_uniform_(module, generator)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x *sides -> N x classes; without classes, N x num_features."""
        logits: Tensor = self.classifier(self.forward_features(x).mean(dim=self.sides))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps, after the last BN and ReLU: N x C x *sides -> N x num_features x *sides / stride.

        Raises:
            InputError: the modules cannot read the image's channels, or it is too small.
        """
        if is_scripting():
            return self._features_and_relu(x)
        else:
            if torch.compiler.is_compiling():
                return self._features_and_relu(x)
            # Not `checked_call`: every function between a network and its kernels is one more to read.
            with self.checking_input(x):
                maps: Tensor = self.relu5(self.features(x))
            return maps

    def _features_and_relu(self, x: Tensor) -> Tensor:
        maps: Tensor = self.relu5(self.features(x))
        return maps

    def forward_intermediates(self, x: Tensor) -> dict[int, Tensor]:
        """The last feature maps at every stride, after BN and ReLU, as segmentation and detection use them.

        Returns:
            stride -> N x channels x *sides / stride; the last is `forward_features`.

        Raises:
            InputError: as `forward_features`; or a transition has been replaced, whose ReLU is not known.
        """
        return self.checked_call(self._intermediates, x)

    def _intermediates(self, x: Tensor) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = {}
        stride = 1
        for name, module in self.features.named_children():
            if name.startswith("transition"):
                with _recorded_relu_output(name, module) as outputs:
                    x = module(x)
                maps[stride] = outputs[0]
                stride *= 2
                continue
            x = module(x)
            if name == "conv0":
                stride = 2 if self.config.stem == "imagenet" else 1
            if name == "relu0":
                maps[stride] = x
            if name == "pool0":
                stride *= 2
        maps[stride] = self.relu5(x)
        return maps

    @property
    def feature_channels(self) -> dict[int, int]:
        """Stride -> channels of `forward_intermediates`."""
        imagenet = self.config.stem == "imagenet"
        first = 4 if imagenet else 1
        channels = {first * 2**i: block.out_channels for i, block in enumerate(self.config.blocks())}
        return {2: self.config.stem_channels, **channels} if imagenet else channels

    def explain_execution(self, images: Tensor) -> list[PartExecution]:
        """The executions of the stem, each block and each transition of this network on such images, and why.

        The network runs once to record each part's input; its buffers and random numbers are restored.

        Args:
            images: N x C x *sides.

        Raises:
            InputError: the network cannot read them.
        """
        parts = self._parts()
        inputs: dict[str, Tensor] = {}
        execution = self.execution
        holders = modules_with_buffers([self])
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            stack.enter_context(RestoredBuffers(holders, copy_buffers(holders)))
            stack.callback(setattr, self, "execution", execution)
            self.execution = "reference"
            for name, modules in parts.items():
                hook = modules[0].register_forward_pre_hook(_input_recorder(inputs, name))
                stack.callback(hook.remove)
            self(images)
        return [
            PartExecution(name, self._choice(inputs.get(name), modules)) for name, modules in parts.items()
        ]

    def _parts(self) -> dict[str, list[nn.Module]]:
        """Name -> modules of the stem (BN, ReLU and pooling), of each block and of each transition."""
        children = dict(self.features.named_children())
        parts = {
            name: [module]
            for name, module in children.items()
            if isinstance(module, DenseBlock | Transition) or name.startswith(("denseblock", "transition"))
        }
        stem = [children[name] for name in ("norm0", "relu0", "pool0") if name in children]
        return {"stem": stem, **parts} if len(stem) == 3 else parts

    def _choice(self, x: Tensor | None, modules: list[nn.Module]) -> Choice:
        if x is None:
            return Choice("reference", None, "it is not called by the modules around it")
        if len(modules) == 3 and type(self.features) is not Features:
            return Choice("reference", None, f"the features are a {type(self.features).__name__}")
        execution = getattr(modules[0], "execution", self.execution)
        return explain_modules(x, modules, BLOCK_CLASSES, execution)


def _input_recorder(inputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A forward pre-hook that records a module's input in `inputs`."""

    def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[name] = arguments[0]

    return record


@contextlib.contextmanager
def _recorded_relu_output(name: str, transition: nn.Module) -> Iterator[list[Tensor]]:
    """A context that records the output of a transition's ReLU in one forward pass, which is not fused."""
    outputs: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for part, module in transition.named_modules():
            if isinstance(module, Transition):
                stack.callback(setattr, module, "execution", module.execution)
                module.execution = "reference"
            if part.split(".")[-1] == "relu":
                hook = module.register_forward_hook(lambda *arguments: outputs.append(arguments[-1]))
                stack.callback(hook.remove)
        yield outputs
    if len(outputs) != 1:
        raise InputError(
            f"forward_intermediates gives what the ReLU of a transition makes, and {name} has become a "
            f"{type(transition).__name__}; torchvision's create_feature_extractor takes any module"
        )
