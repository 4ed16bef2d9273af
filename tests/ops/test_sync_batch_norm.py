from typing import Any

import pytest
import torch
from forked_processes import run_ranks
from small_networks import small_config
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.ops.sync_batch_norm import SyncBatchNorm, synchronize

SHARDS = (3, 5)  # images of each rank
CHANNELS = 4


def norms(features: int, dims: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, SyncBatchNorm]:
    """PyTorch's batch normalisation and ours, with the same values of their own in every tensor."""
    theirs = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](features, eps=1e-3, momentum=0.3)
    generator = torch.Generator().manual_seed(0)
    for tensor in (theirs.weight, theirs.bias, theirs.running_mean):
        nn.init.normal_(tensor, generator=generator)
    nn.init.uniform_(theirs.running_var, 0.5, 2, generator=generator)
    ours = SyncBatchNorm(features, eps=1e-3, momentum=0.3)
    ours.load_state_dict(theirs.state_dict())
    return theirs.to(dtype), ours.to(dtype)


def maps(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    # Away from zero: a variance from E[x^2] - E[x]^2 would lose its digits here.
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * values + 5).to(dtype)


def step(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers of one forward and backward pass."""
    x = x.clone().requires_grad_()
    y = norm(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    y.backward(cotangent.to(y.dtype))
    gradients = {f"gradient of {name}": p.grad for name, p in norm.named_parameters()}
    return {"output": y.detach(), "gradient of x": x.grad, **gradients, **dict(norm.named_buffers())}


def errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest error of each tensor, relative to its largest value."""
    assert actual.keys() == expected.keys()
    return {
        name: ((actual[name].double() - value.double()).abs().max() / value.double().abs().max()).item()
        for name, value in expected.items()
    }


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("sides", [(7,), (5, 3), (3, 2, 5)])
def test_one_process_equals_batch_norm(sides: tuple[int, ...], training: bool):
    theirs, ours = norms(CHANNELS, len(sides))
    x = maps(3, CHANNELS, *sides)
    found = errors(step(ours.train(training), x), step(theirs.train(training), x))
    # float64 rounds at 1e-16; the few hundred terms of a sum leave some 1e-14.
    assert max(found.values()) < 1e-12, found


def test_gradients_of_one_process_are_those_of_finite_differences():
    _, ours = norms(CHANNELS, 2)
    x = maps(2, CHANNELS, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(ours, (x,))


def test_float32_is_as_exact_as_batch_norm():
    x = maps(3, CHANNELS, 9, 7, dtype=torch.float32)
    exact = step(norms(CHANNELS, 2)[0], x.double())
    theirs, ours = norms(CHANNELS, 2, torch.float32)
    limits = errors(step(theirs, x), exact)
    for name, error in errors(step(ours, x), exact).items():
        # 1e-6, some ten roundings, where PyTorch's own error is nil by chance
        assert error <= 2 * limits[name] + 1e-6, name


def test_half_precision_maps_are_normalised_in_float32():
    theirs, ours = norms(CHANNELS, 2, torch.float32)
    x = maps(3, CHANNELS, 9, 7, dtype=torch.bfloat16)
    result, expected = step(ours, x), step(theirs, x.float())
    assert result["output"].dtype == torch.bfloat16
    found = errors(result, expected)
    # Output and cotangent are rounded to bfloat16's 8 bits; the statistics are not.
    assert max(found[name] for name in ("output", "gradient of x", "gradient of weight")) < 2**-7, found
    assert max(found[name] for name in ("running_mean", "running_var")) < 1e-6, found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float64, 1e-12)])
def test_network_in_another_precision_equals_the_network(dtype: torch.dtype, tolerance: float):
    model, plain = small_network().to(dtype), small_network().to(dtype)
    synchronize(model, torch.device("cpu"))
    x = maps(3, 3, 16, 16, dtype=dtype)
    found = errors(step(model, x), step(plain, x))
    # bfloat16 rounds at 0.4% between any two of a dozen layers, float64 at 1e-16
    assert found["output"] < tolerance, found


def test_three_steps_count_and_move_the_statistics_as_batch_norm_does():
    theirs, ours = norms(CHANNELS, 1, torch.float32)
    for seed in range(3):
        x = maps(5, CHANNELS, 4, dtype=torch.float32, seed=seed)
        theirs(x), ours(x)
    assert ours.num_batches_tracked == 3
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


# synchronize


def small_network(execution: Any = "reference") -> DenseNet:
    config = small_config(block_layers=(2, 2), growth_rate=3, stem="imagenet", stem_channels=4, num_classes=3)
    generator = torch.Generator().manual_seed(0)
    model = DenseNet(config, execution, generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # a fresh norm's shift of 0 hides its scale from the next norm
            nn.init.normal_(module.weight, 1, 0.3, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return model


def test_synchronize_replaces_every_norm_and_nothing_else():
    model = small_network()
    before = {key: value.data_ptr() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    kinds = {name: type(module) for name, module in model.named_modules()}
    synchronize(model, torch.device("cpu"))
    assert {key: value.data_ptr() for key, value in model.state_dict().items()} == before
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    for name, module in model.named_modules():
        expected = SyncBatchNorm if kinds[name] is nn.BatchNorm2d else kinds[name]
        assert type(module) is expected, name


def test_synchronize_keeps_constants_and_mode():
    model = nn.Sequential(nn.BatchNorm2d(3, eps=0.1, momentum=0.7), nn.BatchNorm2d(3)).train()
    model[1].eval()
    synchronize(model, torch.device("cpu"))
    assert (model[0].eps, model[0].momentum, model[0].training) == (0.1, 0.7, True)
    assert not model[1].training


def test_synchronize_twice_changes_nothing():
    model = small_network()
    synchronize(model, torch.device("cpu"))
    modules = list(model.modules())
    synchronize(model, torch.device("cpu"))
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))


@pytest.mark.parametrize("execution", ["reference", "recompute"])
def test_synchronized_network_of_one_process_equals_the_network(execution: Any):
    model, plain = small_network(execution), small_network()
    synchronize(model, torch.device("cpu"))
    x = maps(3, 3, 16, 16, dtype=torch.float32)
    found = errors(step(model, x), step(plain, x))
    # float32 in another order of sums, through a dozen layers
    assert max(found.values()) < 1e-4, found


# Two processes


def work(rank: int) -> dict[str, dict[str, Tensor]]:
    """One rank: a norm, and a network in each execution, on this rank's share of the images."""
    results = {"norm": step_of_shard(norms(CHANNELS, 2, torch.float32)[1], CHANNELS, rank)}
    for execution in ("reference", "recompute"):
        model = small_network(execution).double()
        synchronize(model, torch.device("cpu"))
        results[execution] = step_of_shard(model, 3, rank, torch.float64)
    return results


def step_of_shard(
    model: nn.Module, channels: int, rank: int | None, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The step of one rank's images or, with None, of all."""
    x = maps(sum(SHARDS), channels, 16, 16, dtype=dtype)
    x = (x if rank is None else x.split(SHARDS)[rank]).clone().requires_grad_()
    y = model(x)
    cotangent = torch.randn(
        sum(SHARDS), *y.shape[1:], generator=torch.Generator().manual_seed(9), dtype=dtype
    )
    y.backward(cotangent if rank is None else cotangent.split(SHARDS)[rank])
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return {"output": y.detach(), "gradient of x": x.grad, **gradients, **dict(model.named_buffers())}


@pytest.fixture(scope="module")
def results_of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return run_ranks(work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", ["norm", "reference", "recompute"])
def test_two_processes_equal_one_with_all_images(
    name: str, results_of_ranks: list[dict[str, dict[str, Tensor]]]
):
    shards = [results[name] for results in results_of_ranks]
    if name == "norm":
        expected = step_of_shard(norms(CHANNELS, 2, torch.float32)[0], CHANNELS, None)
    else:
        expected = step_of_shard(small_network().double(), 3, None, torch.float64)

    joined: dict[str, Tensor] = {}
    for key in expected:
        values = [shard[key] for shard in shards]
        if key in ("output", "gradient of x"):
            joined[key] = torch.cat(values)
        elif key.startswith("gradient"):
            joined[key] = sum(values)  # the loss is a sum over images, and so is its gradient
        else:
            assert torch.equal(values[0], values[1]), f"the ranks differ in {key}"
            joined[key] = values[0]
    found = errors(joined, expected)
    # Sums in another order; the network in float64, for a dozen layers make much of float32's rounding.
    assert max(found.values()) < (1e-5 if name == "norm" else 1e-10), found


def test_each_rank_alone_would_give_something_else(results_of_ranks: list[dict[str, dict[str, Tensor]]]):
    # The comparison above must be able to fail: unsynchronised shards are off by more than rounding.
    alone = step_of_shard(norms(CHANNELS, 2, torch.float32)[0], CHANNELS, 0)
    found = errors(results_of_ranks[0]["norm"], alone)
    assert found["output"] > 1e-3
    assert found["running_var"] > 1e-3


def test_on_an_accelerator_it_is_pytorchs_own():
    model = DenseNet(small_config(), "fused")
    keys = list(model.state_dict())
    weight = model.features.norm5.weight
    synchronize(model, torch.device("cuda"))
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert {type(norm) for norm in norms} == {nn.SyncBatchNorm}
    assert list(model.state_dict()) == keys
    assert model.features.norm5.weight is weight
    assert model.changed_module() is None


def test_pytorchs_own_is_not_fused_where_it_cannot_run():
    model = DenseNet(small_config(), "fused")
    synchronize(model, torch.device("cuda"))
    with pytest.raises(InputError, match="PyTorch's SyncBatchNorm is for accelerators"):
        model(torch.ones(2, 3, 16, 16))
    # A device without data stands for an accelerator: every block is eligible there.
    images = torch.ones(2, 3, 16, 16, device="meta")
    rows = {row.name: row.choice for row in model.to("meta").explain_execution(images)}
    assert rows["denseblock1"].execution == "fused"
    model.features.denseblock1["denselayer1"].norm1.process_group = object()
    rows = {row.name: row.choice for row in model.explain_execution(images)}
    assert rows["denseblock1"].execution != "fused"
