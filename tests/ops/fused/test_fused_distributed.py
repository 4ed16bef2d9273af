"""Two processes: DistributedDataParallel around fused networks, with statistics of each rank or of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forked_processes import run_ranks
from network_steps import assert_equal, case_config, case_images, pair
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from densenets.models.densenet import DenseNet
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.backend import CPP, EAGER, Backend
from densenets.ops.sync_batch_norm import synchronize

SHARDS = (3, 5)  # images of each rank
STEPS = 3
RUNS = [  # case, execution, backend
    ("bottleneck", "fused", CPP),
    ("bottleneck", "fused-lean", EAGER),
    ("plain", "fused-lean", CPP),
    ("large stem", "fused", CPP),
]
EXACT = 1e-10  # float64 in another order, as in test_fused.py
Results = dict[tuple[Any, ...], dict[str, Tensor]]


def network(case: str, execution: Any) -> DenseNet:
    return pair(case_config(case), execution)[1]


def shard(model: DenseNet, seed: int, rank: int | None) -> Tensor:
    """One rank's images or, with None, those of all."""
    x = case_images(model.config, seed, batch=sum(SHARDS))
    return x if rank is None else x.split(SHARDS)[rank]


def loss(logits: Tensor) -> Tensor:
    """A sum over images, so that it and its gradients add up over ranks."""
    return (logits * torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype)).square().sum()


def work(rank: int) -> Results:
    results: Results = {}
    for case, execution, backend in RUNS:
        backend_module.BACKENDS = tuple(dict.fromkeys((backend, EAGER)))
        for synchronized in (True, False):
            model = network(case, execution)
            if synchronized:
                synchronize(model, torch.device("cpu"))
            results[case, execution, backend.name, synchronized] = train(model, rank)
    return results


def train(model: DenseNet, rank: int) -> dict[str, Tensor]:
    """Some steps; then the last logits, all gradients, weights and statistics."""
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for seed in range(STEPS):
        optimizer.zero_grad()
        logits = parallel(shard(model, seed, rank))
        loss(logits).backward()  # DistributedDataParallel takes the mean over ranks
        optimizer.step()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return {"logits": logits.detach(), **gradients, **model.state_dict()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    return run_ranks(work, tmp_path_factory.mktemp("ranks"))


def one_process(case: str, *, synchronized: bool) -> dict[str, Tensor]:
    """What the ranks must come to, by the reference: on all images at once, or replica beside replica."""
    shards = [None] if synchronized else [0, 1]
    replicas = [network(case, "reference") for _ in shards]
    optimizers = [torch.optim.SGD(replica.parameters(), lr=0.01, momentum=0.9) for replica in replicas]
    for seed in range(STEPS):
        logits = []
        for replica, rank in zip(replicas, shards, strict=True):
            replica.zero_grad()
            logits.append(replica(shard(replica, seed, rank)))
            loss(logits[-1]).backward()
        for parameters in zip(*(replica.parameters() for replica in replicas), strict=True):
            mean = sum(p.grad for p in parameters) / len(SHARDS)
            for parameter in parameters:
                parameter.grad = mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    gradients = {f"gradient of {name}": p.grad for name, p in replicas[0].named_parameters()}
    return {"logits": torch.cat(logits).detach(), **gradients, **replicas[0].state_dict()}


@pytest.mark.parametrize("synchronized", [True, False], ids=["of all ranks", "of each rank"])
@pytest.mark.parametrize(("case", "execution", "backend"), RUNS)
@pytest.mark.slow
def test_two_processes_train_what_the_reference_does(
    case: str, execution: str, synchronized: bool, backend: Backend, ranks: list[Results]
):
    results = [results[case, execution, backend.name, synchronized] for results in ranks]
    actual = {**results[0], "logits": torch.cat([result["logits"] for result in results])}
    assert_equal(actual, one_process(case, synchronized=synchronized), EXACT)
    for name, value in results[1].items():
        # Statistics of each rank are its own, and the reference's here are those of rank 0.
        if name != "logits" and (synchronized or not name.endswith(("mean", "var"))):
            assert torch.equal(value, actual[name]), f"the ranks differ in {name}"
