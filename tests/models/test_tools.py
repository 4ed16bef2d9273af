"""Tools that look at a network see an ordinary one: PyTorch's own operations, without this package."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair
from quick_tests import every
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from densenets.models.densenet import DenseNet
from densenets.ops.execution import EXECUTIONS

EXECUTION = pytest.mark.parametrize("execution", EXECUTIONS)
# Every case and every execution, but not all pairs: whether a graph is traced is asked before both.
CASE_AND_EXECUTION = every(
    "case, execution",
    [
        *((case, "auto") for case in ("bottleneck", "plain", "large stem", "signal", "volume")),
        *(("bottleneck", execution) for execution in EXECUTIONS if execution != "auto"),
    ],
    quick=lambda case, execution: execution == "auto" and case in ("bottleneck", "large stem"),
)
# Scripts and traces are deprecated by PyTorch, which says so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:UserWarning"
)


def network(case: str, execution: Any) -> tuple[DenseNet, Tensor, Tensor]:
    """In evaluation; images, and its logits of them."""
    reference, model = pair(case_config(case, block_layers=(2, 2)), execution)
    x = case_images(model.config)
    return model.eval(), x, reference.eval()(x).detach()


def operators(graph: torch.fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


@CASE_AND_EXECUTION
def test_traced_scripted_and_symbolically_traced(case: str, execution: Any):
    model, x, expected = network(case, execution)
    for traced in (torch.jit.trace(model, x), torch.jit.script(model), torch.fx.symbolic_trace(model)):
        torch.testing.assert_close(traced(x), expected)
    for graph in (torch.jit.trace(model, x).inlined_graph, torch.jit.script(model).inlined_graph):
        assert "densenets::" not in str(graph)


@CASE_AND_EXECUTION
def test_graphs_hold_pytorchs_operations_alone(case: str, execution: Any):
    model, x, expected = network(case, execution)
    programs = [torch.export.export(model, (x,), strict=strict) for strict in (False, True)]
    for program in programs:
        torch.testing.assert_close(program.module()(x), expected)
    traced = make_fx(model)(x)
    torch.testing.assert_close(traced(x), expected)
    for graph in (*(program.graph for program in programs), traced.graph):
        assert not [name for name in operators(graph) if "densenets" in name]


@every("execution", EXECUTIONS, quick=lambda execution: execution == "auto")
@pytest.mark.skipif(torch.__version__ < "2.13", reason="PyTorch refuses torchvision's DenseNet so too")
def test_exported_for_any_number_and_size_of_images(execution: Any):
    model, _, _ = network("large stem", execution)
    batch, height = torch.export.Dim("batch", min=2), torch.export.Dim("height", min=32)
    example = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    shapes = {"x": {0: batch, 2: height}}
    program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
    x = torch.randn(3, 3, 80, 48, dtype=torch.float64)
    torch.testing.assert_close(program.module()(x), model(x))


def test_exported_in_training():
    reference, model = pair(case_config("large stem", block_layers=(2, 2)), "auto")
    x = case_images(model.config)
    program = torch.export.export(model.train(), (x,), strict=False)
    torch.testing.assert_close(program.module()(x), reference.train()(x))
    assert not [name for name in operators(program.graph) if "densenets" in name]


@pytest.mark.slow
def test_traced_networks_run_where_this_package_is_not(tmp_path: Path):
    model, x, expected = network("large stem", "auto")
    torch.jit.trace(model, x).save(str(tmp_path / "traced.pt"))
    torch.jit.script(model).save(str(tmp_path / "scripted.pt"))
    torch.save({"x": x, "expected": expected}, tmp_path / "values.pt")
    code = (
        "import torch, sys\n"
        "v = torch.load('values.pt')\n"
        "for name in ('traced', 'scripted'):\n"
        "    torch.testing.assert_close(torch.jit.load(f'{name}.pt')(v['x']), v['expected'])\n"
        "assert not [name for name in sys.modules if name.startswith('densenets')]\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)


@every("execution", ("auto", "fused"), quick=lambda execution: execution == "auto")
def test_exported_to_onnx(execution: Any, tmp_path: Path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x, expected = network("large stem", execution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own
        program = torch.onnx.export(model.float(), (x.float(),), dynamo=True, verbose=False)
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.float().numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected.float(), rtol=1e-4, atol=1e-4)


@EXECUTION
def test_features_are_extracted_by_torchvision(execution: Any):
    model, x, expected = network("large stem", execution)
    nodes = {"features.denseblock1": "block", "features.norm5": "norm", "classifier": "logits"}
    features = create_feature_extractor(model, nodes)(x)
    torch.testing.assert_close(features["logits"], expected)
    torch.testing.assert_close(features["norm"], model.features(x))
    assert features["block"].shape[1] == model.config.blocks()[0].out_channels
    assert "features.denseblock1.denselayer2.conv2" in get_graph_node_names(model)[1]


@pytest.mark.usefixtures("fresh_compiler")
@every("execution", ("auto", "fused", "fused-lean"), quick=lambda execution: execution == "auto")
def test_the_compiler_keeps_the_fused_operators(execution: Any):
    pytest.importorskip("densenets.ops.backends.cpp.library")
    model, x, expected = network("large stem", execution)
    seen: set[str] = set()

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        seen.update(operators(graph.graph))
        return graph

    torch.testing.assert_close(torch.compile(model, backend=backend, fullgraph=True)(x), expected)
    assert "densenets.dense_block.default" in seen


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
def test_a_compiled_network_notices_what_becomes_of_its_modules():
    reference, model = pair(case_config(block_layers=(2, 2)), "auto")
    x = case_images(model.config)
    compiled = torch.compile(model.eval(), backend="eager")
    compiled(x)
    for changed in (reference.eval(), model):
        changed.features.denseblock1.denselayer2.relu1 = nn.SiLU()
    torch.testing.assert_close(compiled(x), reference(x))
    for changed in (reference, model):
        changed.train()
    assert_equal({"logits": compiled(x)}, {"logits": reference(x)})


def test_shapes_are_known_to_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for execution in EXECUTIONS:
        with FakeTensorMode():
            model = DenseNet(case_config("large stem"), execution)
            assert model(torch.empty(2, 3, 64, 64)).shape == (2, 5)
