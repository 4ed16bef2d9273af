"""The fused executions as PyTorch's tools see them: opcheck, torch.compile, torch.export, pickles, memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, kept_bytes, pair, step
from quick_tests import every
from small_networks import small_config
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from densenets.models.densenet import DenseNet
from densenets.ops.backends.backend import CPP
from densenets.ops.backends.block_plan import BlockPlan
from densenets.ops.execution import EXECUTIONS
from densenets.ops.fused.lean_stem import lean_stem_backward_operator, lean_stem_operator
from densenets.ops.fused.operators import (
    dense_block_backward_operator,
    dense_block_operator,
)
from densenets.ops.fused.stem import stem_backward_operator, stem_operator

EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
# Every operator once, and the second execution where the two differ.
NETWORK = every(
    "case, execution",
    [("bottleneck", "fused"), ("bottleneck", "fused-lean"), ("plain", "fused"), ("large stem", "fused")],
    quick=lambda case, execution: (case, execution) == ("bottleneck", "fused"),
)
DIFFERENTIABLE = pytest.mark.parametrize("differentiable", [True, False], ids=["gradients", "constants"])
EXACT = 1e-10  # float64 in another order, as in test_fused.py
# A backward operator raises where it is differentiated, and opcheck differentiates what requires gradients:
# its inputs are constants. So there is nothing to register, which this part asks for, either.
OF_BACKWARD = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")


# opcheck


def values(*shape: int, differentiable: bool = False) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_(differentiable)


def unit(channels: int, out_channels: int, kernel: int, differentiable: bool) -> list[Tensor]:
    """Scale, shift and weight."""
    shapes = ((channels,), (channels,), (out_channels, channels, kernel, kernel))
    return [values(*shape, differentiable=differentiable) for shape in shapes]


def running(*channels: int) -> list[Tensor]:
    return [statistic for count in channels for statistic in (values(count), torch.rand(count).double() + 1)]


def images(layout: torch.memory_format, channels: int, *, differentiable: bool = False) -> Tensor:
    x = torch.randn(2, channels, 5, 4, dtype=torch.float64).to(memory_format=layout)
    return x.requires_grad_(differentiable)


# PyTorch warns of what opcheck itself does with inputs that require gradients.
OPCHECK = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
PLAIN, LAST = torch.contiguous_format, torch.channels_last


def block_arguments(
    x: Tensor, bottleneck: bool, training: bool, drop: float, differentiable: bool, **plan: Any
) -> tuple[Any, ...]:
    """Those of the forward operator, for two layers of 3 channels on x's 4."""
    if bottleneck:
        parameters = [*unit(4, 6, 1, differentiable), *unit(6, 3, 3, differentiable)]
        parameters += [*unit(7, 6, 1, differentiable), *unit(6, 3, 3, differentiable)]
    else:
        parameters = [*unit(4, 3, 3, differentiable), *unit(7, 3, 3, differentiable)]
    out_channels = [weight.shape[0] for weight in parameters[2::3]]
    statistics = [] if training else running(*[scale.shape[0] for scale in parameters[::3]])
    masks = [torch.ones(40, count, dtype=torch.uint8).bernoulli_(1 - drop) for count in out_channels if drop]
    fields = plan_arguments(
        layer_units=1 + bottleneck,
        epsilons=(1e-5,) * len(out_channels),
        dropout=drop,
        training=training,
        **plan,
    )
    return x, parameters, statistics, masks, *fields


def plan_arguments(**fields: Any) -> tuple[tuple[float, ...], float, str]:
    """A plan for the operator, of a block without transition where the fields say nothing else."""
    defaults = {"dropout": 0.0, "synchronized": False, "has_transition": False, "transition_pools": False}
    plan = BlockPlan(**{**defaults, **fields})
    return plan.epsilons, plan.dropout, plan.text


@OPCHECK
@DIFFERENTIABLE
@every(
    "bottleneck, keep_bottlenecks, drop, training, layout",
    [
        (True, True, 0.0, True, PLAIN),
        (True, False, 0.4, True, LAST),
        (True, True, 0.0, False, LAST),
        (False, False, 0.4, True, PLAIN),
        (False, False, 0.0, False, LAST),
    ],
    quick=lambda *values: values[2] > 0,
)
def test_opcheck_of_a_block(
    bottleneck: bool,
    keep_bottlenecks: bool,
    drop: float,
    training: bool,
    layout: torch.memory_format,
    differentiable: bool,
    backend: str,
):
    torch.manual_seed(0)
    x = images(layout, 4, differentiable=differentiable)
    arguments = block_arguments(
        x, bottleneck, training, drop, differentiable, backend=backend, keep_bottlenecks=keep_bottlenecks
    )
    torch.library.opcheck(dense_block_operator, arguments)
    if not differentiable:
        result = dense_block_operator(*arguments)
        gradient = torch.randn_like(result[0]).to(memory_format=layout)
        arguments = ([gradient, None], list(result[:-1]), *arguments[1:])
        torch.library.opcheck(dense_block_backward_operator, arguments, test_utils=OF_BACKWARD)


@OPCHECK
@DIFFERENTIABLE
@pytest.mark.parametrize(
    ("pool", "training", "layout"), [(True, True, PLAIN), (False, True, LAST), (True, False, LAST)]
)
def test_opcheck_of_a_transition(
    pool: bool, training: bool, layout: torch.memory_format, differentiable: bool, backend: str
):
    torch.manual_seed(0)
    x, parameters = images(layout, 4, differentiable=differentiable), unit(4, 2, 1, differentiable)
    plan = plan_arguments(
        backend=backend,
        layer_units=1,
        epsilons=(1e-5,),
        training=training,
        has_transition=True,
        transition_pools=pool,
        keep_bottlenecks=True,
    )
    arguments = (x, parameters, [] if training else running(4), [], *plan)
    torch.library.opcheck(dense_block_operator, arguments)
    if not differentiable:
        result = dense_block_operator(*arguments)
        gradient = torch.randn_like(result[-1]).to(memory_format=layout)
        arguments = ([None, gradient], list(result[:-1]), *arguments[1:])
        torch.library.opcheck(dense_block_backward_operator, arguments, test_utils=OF_BACKWARD)


@pytest.mark.skipif(not CPP.availability().available, reason="the stem is fused in native kernels only")
@OPCHECK
@DIFFERENTIABLE
@pytest.mark.parametrize(("training", "layout"), [(True, PLAIN), (True, LAST), (False, LAST)])
def test_opcheck_of_a_stem(training: bool, layout: torch.memory_format, differentiable: bool):
    torch.manual_seed(0)
    x, (scale, shift, _) = images(layout, 4, differentiable=differentiable), unit(4, 1, 1, differentiable)
    statistics = [] if training else running(4)
    torch.library.opcheck(stem_operator, (x, scale, shift, statistics, 1e-5, "cpp"))
    if not differentiable:
        result, winners, moments = stem_operator(x, scale, shift, statistics, 1e-5, "cpp")
        used = moments if training else torch.stack(statistics)
        gradient = torch.randn_like(result).to(memory_format=layout)
        arguments = (gradient, x, winners, scale, shift, used, 1e-5, training, "cpp")
        torch.library.opcheck(stem_backward_operator, arguments, test_utils=OF_BACKWARD)


@pytest.mark.skipif(not CPP.availability().available, reason="the stem is fused in native kernels only")
@OPCHECK
@DIFFERENTIABLE
@pytest.mark.parametrize(("training", "layout"), [(True, PLAIN), (True, LAST), (False, LAST)])
def test_opcheck_of_a_lean_stem(training: bool, layout: torch.memory_format, differentiable: bool):
    torch.manual_seed(0)
    x, (scale, shift, _) = images(layout, 3, differentiable=differentiable), unit(4, 1, 1, differentiable)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=differentiable)
    arguments = (x, weight, scale, shift, [] if training else running(4), 1e-5, [2, 2], [1, 1], "cpp")
    torch.library.opcheck(lean_stem_operator, arguments)
    if not differentiable:
        result, moments = lean_stem_operator(*arguments)
        used = moments if training else torch.stack(arguments[4])
        gradient = torch.randn_like(result).to(memory_format=layout)
        of_all = (gradient, *arguments[:4], used, 1e-5, training, [2, 2], [1, 1], True, "cpp")
        torch.library.opcheck(lean_stem_backward_operator, of_all, test_utils=OF_BACKWARD)


# Compilers


@pytest.mark.usefixtures("fresh_compiler")
@NETWORK
@TRAINING
def test_compiled_equals_eager(case: str, execution: Any, training: bool):
    # One graph without a break, forward and backward, and statistics that move once a step.
    reference, fused = pair(case_config(case, block_layers=(2, 2)), execution)
    compiled = torch.compile(fused.train(training), backend="aot_eager", fullgraph=True)
    for seed in (0, 1):
        x = case_images(fused.config, seed)
        assert_equal(step(fused, x, compiled), step(reference.train(training), x), EXACT)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_dropout_draws_anew():
    _, fused = pair(case_config(block_layers=(1, 1), dropout=0.4), "fused")
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    x = case_images(fused.config)
    results = [compiled(x).detach() for _ in range(2)]
    assert not torch.equal(*results)
    compiled(x).sum().backward()
    assert fused.features.get_parameter("denseblock1.denselayer1.conv1.weight").grad.any()


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_by_inductor_equals_eager():
    reference, fused = pair(case_config(block_layers=(1,)), "fused")
    x = images(PLAIN, 3)
    assert_equal(step(fused, x, torch.compile(fused, fullgraph=True)), step(reference, x), EXACT)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
def test_compiled_for_any_size():
    _, fused = pair(case_config("large stem", block_layers=(1, 1)), "fused")
    compiled = torch.compile(fused.eval(), backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in ((2, 3, 33, 40), (3, 3, 47, 31), (5, 3, 64, 64)):
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), fused(x))


# Models as values


@pytest.mark.usefixtures("backend")
@TRAINING
@EXECUTION
def test_functional_call_reads_the_weights_that_it_is_given(execution: Any, training: bool):
    reference, fused = pair(case_config("large stem"), execution)
    other = {name: (p * 1.25).detach().requires_grad_() for name, p in reference.named_parameters()}
    x, outcomes = case_images(fused.config), []
    for model in (reference, fused):
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        result = torch.func.functional_call(model.train(training), {**other, **buffers}, x)
        gradients = torch.autograd.grad(result.square().sum(), list(other.values()))
        outcomes.append({"result": result, **dict(zip(other, gradients, strict=True)), **buffers})
        assert not model.features.norm5.num_batches_tracked, "the model's own statistics moved"
    assert_equal(outcomes[1], outcomes[0], EXACT)


def test_weights_do_not_show_the_execution():
    models = [DenseNet(case_config("large stem"), execution) for execution in EXECUTIONS]
    first = models[0].state_dict()
    for model in models:
        state = model.state_dict()
        assert [(key, value.shape) for key, value in state.items()] == [
            (key, value.shape) for key, value in first.items()
        ]
        model.load_state_dict(first, strict=True)


@EXECUTION
@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles(again: Callable[[DenseNet], DenseNet], execution: Any):
    _, fused = pair(case_config("large stem"), execution)
    x = case_images(fused.config)
    fused(x).sum().backward()  # what a pass leaves behind must not stand in the way
    other = again(fused)
    assert other.execution == execution
    expected = step(fused, x)
    assert all(torch.equal(value, expected[name]) for name, value in step(other, x).items())


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_checkpointing_a_block_makes_it_again(execution: Any):
    outcomes = []
    for model in pair(case_config(), execution):
        x = case_images(model.config).requires_grad_()
        block = model.features.denseblock1
        checkpoint(block, model.features.conv0(x), use_reentrant=False).square().sum().backward()
        gradients = {f"gradient of {name}": p.grad for name, p in block.named_parameters()}
        outcomes.append({"gradient of x": x.grad, **gradients})
    assert_equal(outcomes[1], outcomes[0], EXACT)


# Memory


@TRAINING
@EXECUTION
def test_a_block_keeps_its_buffer_and_perhaps_its_bottlenecks(execution: Any, training: bool):
    width, pixels, layers = 16, 2 * 12 * 10, 5
    channels = 8 + 4 * layers
    floats = pixels * channels
    if execution == "fused":
        floats += pixels * width * layers
    if training:  # mean and variance
        floats += 2 * channels + 2 * width * layers
    block = DenseNet(small_config(block_layers=(layers,)), execution).features.denseblock1.train(training)
    x = torch.randn(2, 8, 12, 10, requires_grad=True).to(memory_format=torch.channels_last).detach()
    assert kept_bytes(block, x.requires_grad_()) == 4 * floats
