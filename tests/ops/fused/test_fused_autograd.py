"""The fused executions under every use of autograd: graphs kept, shared, cut and differentiated twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from densenets.models.densenet import DenseNet

EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
# Blocks with and without bottleneck; the large stem has an operator of its own.
CASE = pytest.mark.parametrize("case", ["bottleneck", "plain", "large stem"])
EXACT = 1e-10  # float64 in another order, as in test_fused.py
pytestmark = pytest.mark.usefixtures("backend")


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def loss(model: DenseNet, seed: int) -> Tensor:
    return model(case_images(model.config, seed)).square().sum()


@CASE
@EXECUTION
def test_several_forwards_before_a_backward(case: str, execution: Any):
    reference, fused = pair(case_config(case), execution)
    for model in (reference, fused):
        first, second, unused = (loss(model, seed) for seed in range(3))
        assert unused.requires_grad
        (2 * second + first).backward()
    assert_equal(gradients(fused), gradients(reference), EXACT)
    assert_equal(dict(fused.named_buffers()), dict(reference.named_buffers()), EXACT)
    assert fused.features.norm5.num_batches_tracked == 3


@EXECUTION
def test_gradients_add_up(execution: Any):
    _, fused = pair(case_config(), execution)
    parts = []
    for seed in (0, 1):
        fused.zero_grad(set_to_none=True)
        loss(fused, seed).backward()
        parts.append(gradients(fused))
    fused.zero_grad(set_to_none=True)
    for seed in (0, 1):
        loss(fused, seed).backward()
    assert_equal(gradients(fused), {name: parts[0][name] + parts[1][name] for name in parts[0]}, EXACT)


@CASE
@TRAINING
@EXECUTION
def test_backward_twice_gives_the_same(case: str, execution: Any, training: bool):
    _, fused = pair(case_config(case), execution)
    value, outcomes = loss(fused.train(training), 0), []
    for retain in (True, False):
        fused.zero_grad(set_to_none=True)
        value.backward(retain_graph=retain)
        outcomes.append(gradients(fused))
    assert all(torch.equal(gradient, outcomes[0][name]) for name, gradient in outcomes[1].items())
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@CASE
@EXECUTION
def test_training_goes_on_after_inference_mode(case: str, execution: Any):
    reference, fused = pair(case_config(case), execution)
    with torch.inference_mode():
        loss(fused.eval(), 0)
    x = case_images(fused.config)
    assert_equal(step(fused.train(), x), step(reference, x), EXACT)


@EXECUTION
def test_copies_follow_their_network(execution: Any):
    _, fused = pair(case_config(), execution)
    average = AveragedModel(fused, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    optimizer = torch.optim.SGD(fused.parameters(), lr=0.1)
    states = []
    for seed in range(3):
        optimizer.zero_grad()
        loss(fused, seed).backward()
        optimizer.step()
        average.update_parameters(fused)
        states.append({key: value.clone() for key, value in fused.named_parameters()})
    # The first update copies, each later one goes half of the way.
    for name, parameter in average.module.named_parameters():
        expected = states[0][name] / 4 + states[1][name] / 4 + states[2][name] / 2
        torch.testing.assert_close(parameter, expected)
    copied = copy.deepcopy(fused)
    assert copied.execution == execution
    x = case_images(fused.config)
    expected = step(copied, x)
    assert all(torch.equal(value, expected[name]) for name, value in step(fused, x).items())
    reference = DenseNet(fused.config, "reference").double()
    reference.load_state_dict(average.module.state_dict())
    assert_equal(step(average.module.eval(), x), step(reference.eval(), x), EXACT)


# Parts of the graph


def some(model: DenseNet, kind: str) -> list[nn.Parameter]:
    """Parameters that a user may want to train alone."""
    if kind == "classifier":
        return list(model.classifier.parameters())
    if kind == "one weight in the middle of a block":
        return [model.features.get_parameter("denseblock2.denselayer1.conv1.weight")]
    types = {"norms": _BatchNorm, "convolutions": _ConvNd}
    return [p for m in model.modules() if isinstance(m, types[kind]) for p in m.parameters()]


@TRAINING
@EXECUTION
@pytest.mark.parametrize(
    "kind", ["classifier", "one weight in the middle of a block", "norms", "convolutions"]
)
def test_only_some_parameters_require_gradients(kind: str, execution: Any, training: bool):
    reference, fused = pair(case_config(), execution)
    for model in (reference, fused):
        model.train(training).requires_grad_(False)
        for parameter in some(model, kind):
            parameter.requires_grad_()
        loss(model, 0).backward()
    assert len(gradients(fused)) == len(some(fused, kind))
    assert_equal(gradients(fused), gradients(reference), EXACT)


@CASE
@TRAINING
@EXECUTION
def test_only_the_images_require_gradients(case: str, execution: Any, training: bool):
    reference, fused = pair(case_config(case), execution)
    outcomes = []
    for model in (reference, fused):
        x = case_images(model.config).requires_grad_()
        (gradient,) = torch.autograd.grad(model.train(training).requires_grad_(False)(x).square().sum(), x)
        assert not gradients(model)
        outcomes.append({"gradient of x": gradient})
    assert_equal(outcomes[1], outcomes[0], EXACT)


@EXECUTION
def test_a_part_of_the_result_that_nobody_uses(execution: Any):
    reference, fused = pair(case_config(), execution)
    for model in (reference, fused):
        block = model.features.denseblock1
        # The last layer makes the last 4 channels; the others give nothing to its parameters.
        block(model.features.conv0(case_images(model.config)))[:, :-4].square().sum().backward()
    assert not fused.features.get_parameter("denseblock1.denselayer3.conv2.weight").grad.any()
    zeros = {name: gradient for name, gradient in gradients(reference).items() if gradient.any()}
    assert_equal({name: gradients(fused)[name] for name in zeros}, zeros, EXACT)


@EXECUTION
@pytest.mark.parametrize("form", ["expanded", "transposed", "contiguous"])
def test_gradients_come_in_every_form(form: str, execution: Any):
    reference, fused = pair(case_config(), execution)
    forms = {
        "expanded": lambda y: y.sum(dim=(2, 3)),
        "transposed": lambda y: y.transpose(2, 3).flatten() * torch.linspace(-1, 1, y.numel()),
        "contiguous": lambda y: y.contiguous().flatten() * torch.linspace(-1, 1, y.numel()),
    }
    for model in (reference, fused):
        forms[form](model.features[:3](case_images(model.config))).sum().backward()
    assert_equal(gradients(fused), gradients(reference), EXACT)


# What autograd must refuse


@TRAINING
@EXECUTION
def test_what_backward_reads_must_not_be_changed(execution: Any, training: bool):
    _, fused = pair(case_config(), execution)
    block = fused.train(training).features.get_submodule("denseblock1")
    norm = next(m for m in block.modules() if isinstance(m, _BatchNorm))
    # In the format in which operators compute; of any other they read and give copies.
    x = torch.randn(2, norm.num_features, 6, 6, dtype=torch.float64, requires_grad=True)
    x = x.to(memory_format=torch.channels_last) * 1
    result = block(x)
    # A block keeps its result. Autograd speaks up at once, or in the backward pass.
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):  # noqa: PT012
        result.mul_(2)
        result.sum().backward()


@TRAINING
@EXECUTION
@pytest.mark.parametrize("module", ["denseblock1", "transition1"])
def test_what_a_part_has_read_may_be_changed(module: str, execution: Any, training: bool):
    # Both keep a copy in their buffer.
    grads = []
    for change in (False, True):
        _, fused = pair(case_config(), execution)
        part = fused.train(training).features.get_submodule(module)
        norm = next(m for m in part.modules() if isinstance(m, _BatchNorm))
        start = torch.linspace(-1, 1, 2 * norm.num_features * 36, dtype=torch.float64).sin()
        start = start.view(2, norm.num_features, 6, 6).requires_grad_()
        x = start.to(memory_format=torch.channels_last) * 1
        result = part(x)
        if change:
            x.detach().mul_(2)
        result.square().sum().backward()
        grads.append(start.grad)
    assert torch.equal(*grads)


# Differentiated again, or for many gradients at once

RECORDED = pytest.mark.parametrize("case", ["bottleneck", "plain", "large stem", "signal", "volume"])


def gradient_of_gradients(model: DenseNet, x: Tensor) -> dict[str, Tensor]:
    """First derivatives, and those of the sum of their squares."""
    x = x.clone().requires_grad_()
    names, leaves = zip(*[("x", x), *model.named_parameters()], strict=True)
    first = torch.autograd.grad(model(x).square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves, allow_unused=True)
    actual = {f"first {name}": gradient.detach() for name, gradient in zip(names, first, strict=True)}
    return actual | {f"second {n}": g for n, g in zip(names, second, strict=True) if g is not None}


@RECORDED
@TRAINING
@EXECUTION
def test_a_recorded_backward_pass_can_be_differentiated(case: str, execution: Any, training: bool):
    reference, fused = pair(case_config(case), execution)
    x = case_images(fused.config)
    actual = gradient_of_gradients(fused.train(training), x)
    assert_equal(actual, gradient_of_gradients(reference.train(training), x))
    assert len(actual) > 2 * len(list(fused.parameters())) - 2


@EXECUTION
def test_recorded_gradients_of_one_of_two_results(execution: Any):
    # A block's own result, not its transition's: the first is used when a head reads it.
    outcomes = []
    for model in pair(case_config(), execution):
        block, x = model.features.denseblock1, case_images(model.config)
        maps = model.features.conv0(x).detach().requires_grad_()
        (first,) = torch.autograd.grad(block(maps).square().sum(), maps, create_graph=True)
        outcomes.append({"second": torch.autograd.grad(first.square().sum(), maps)[0]})
    assert_equal(outcomes[1], outcomes[0])


@EXECUTION
def test_recorded_gradients_drop_what_was_dropped(execution: Any):
    _, fused = pair(case_config(dropout=0.4), execution)
    x = case_images(fused.config).requires_grad_()
    torch.manual_seed(2)
    (recorded,) = torch.autograd.grad(fused(x).square().sum(), x, create_graph=True)
    torch.manual_seed(2)
    (plain,) = torch.autograd.grad(fused(x).square().sum(), x)
    torch.testing.assert_close(recorded.detach(), plain)


@CASE
@TRAINING
@EXECUTION
def test_many_gradients_at_once(case: str, execution: Any, training: bool):
    outcomes = []
    for model in pair(case_config(case), execution):
        x = case_images(model.train(training).config).requires_grad_()
        y = model(x)
        each = torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape)
        (of_grad,) = torch.autograd.grad(y, x, each, is_grads_batched=True, retain_graph=True)
        of_vmap = torch.func.vmap(lambda v, y=y, x=x: torch.autograd.grad(y, x, v, retain_graph=True)[0])(
            each
        )
        outcomes.append({"batched": of_grad, "mapped": of_vmap})
    assert_equal(outcomes[1], outcomes[0])


@EXECUTION
def test_jacobians_and_hessians(execution: Any):
    def outcome(model: DenseNet) -> dict[str, Tensor]:
        x = case_images(model.eval().config, batch=1)[..., :8, :8]
        jacobian = torch.autograd.functional.jacobian(model, x, vectorize=True)
        hessian = torch.autograd.functional.hessian(lambda x: model(x).square().sum(), x)
        return {"jacobian": jacobian, "hessian": hessian}

    reference, fused = pair(case_config(block_layers=(1, 1)), execution)
    assert_equal(outcome(fused), outcome(reference))


@CASE
@EXECUTION
def test_saved_tensors_may_be_packed(case: str, execution: Any):
    reference, fused = pair(case_config(case), execution)
    x = case_images(fused.config)
    expected = step(reference, x)
    packed: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor.clone()):
        actual = step(fused, x)
    assert_equal(actual, expected, EXACT)
    assert packed
    with torch.autograd.graph.save_on_cpu():
        assert_equal(step(fused.eval(), x), step(reference.eval(), x), EXACT)


# Other kinds of differentiation, which the operators have no rules for

# PyTorch's own rules of forward mode for batch normalisation are scripts, which it has deprecated.
IN_SCRIPTS = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")


@IN_SCRIPTS
@TRAINING
def test_auto_gives_way_to_forward_mode(training: bool):
    reference, auto = pair(case_config(), "auto")
    x = case_images(auto.config)
    tangents = []
    for model in (reference.train(training), auto.train(training)):
        with torch.autograd.forward_ad.dual_level():
            result = model(torch.autograd.forward_ad.make_dual(x, x.cos()))
            tangents.append({"tangent": torch.autograd.forward_ad.unpack_dual(result).tangent})
    assert_equal(tangents[1], tangents[0], EXACT)


@IN_SCRIPTS
@pytest.mark.parametrize("frozen", [True, False])
def test_auto_gives_way_to_torch_func(frozen: bool):
    reference, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)

    def outcome(model: DenseNet) -> dict[str, Tensor]:
        model.eval().requires_grad_(not frozen)
        weights = {name: p.detach() for name, p in model.named_parameters()}

        def of_image(weights: dict[str, Tensor], image: Tensor) -> Tensor:
            return torch.func.functional_call(model, weights, image[None]).square().sum()

        gradient = torch.func.grad(of_image)
        each = torch.func.vmap(gradient, in_dims=(None, 0))(weights, x)
        tangent = torch.func.jvp(model, (x,), (x.cos(),))[1]
        return {**gradient(weights, x[0]), **{f"each {k}": v for k, v in each.items()}, "tangent": tangent}

    assert_equal(outcome(auto), outcome(reference), EXACT)
