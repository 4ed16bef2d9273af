"""Which execution runs: a table of what is asked for, what there is, and what comes out."""

from dataclasses import replace
from typing import Any

import pytest

from densenets.errors import InputError
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP, EAGER
from densenets.ops.execution import EXECUTIONS, Choice, check_execution, choose_execution

FUSED = ("fused", "fused-lean")
KERNELS = Availability(True, "avx2")
NO_KERNELS = Availability(False, "the native kernels were not built")
NOT_FOR_CUDA = "the native kernels are for the CPU, not cuda"


def choose(requested: Any, kernels: Availability = KERNELS, **changes: Any) -> Choice:
    """On a CPU with kernels, for modules that can be fused, unless told otherwise."""
    facts = {"device": "cpu", "dtype": "float32", **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend_module, "BACKENDS", (replace(CPP, availability=lambda: kernels), EAGER))
        return choose_execution(requested, **facts)


def test_auto_comes_first_and_every_name_passes():
    assert EXECUTIONS == ("auto", "reference", "recompute", "fused", "fused-lean")
    for execution in EXECUTIONS:
        check_execution(execution)


@pytest.mark.parametrize("check", [check_execution, choose])
def test_unknown_execution_gets_the_nearest(check: Any):
    with pytest.raises(InputError, match=r"^unknown execution 'referense'; did you mean reference\?$"):
        check("referense")
    with pytest.raises(InputError, match="did you mean fused or fused-lean"):
        check("fusedd")
    with pytest.raises(InputError, match="known: auto, reference, recompute, fused, fused-lean"):
        check("quick")


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_what_runs_where_everything_is_there(execution: Any, dtype: str):
    choice = choose(execution, dtype=dtype)
    assert choice.execution == ("fused" if execution == "auto" else execution)
    assert choice.backend == ("cpp" if choice.execution in FUSED else None)


@pytest.mark.parametrize("execution", ["reference", "recompute"])
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"device": "cuda"},
        {"dtype": "float16"},
        {"kernels": NO_KERNELS},
        {"ineligibility": "a Conv2d has hooks"},
    ],
)
def test_nothing_stands_in_the_way_of_pytorchs_own_modules(execution: Any, facts: dict[str, Any]):
    assert choose(execution, **facts) == Choice(execution, None, "as asked for")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"ineligibility": "a Conv2d has hooks"}, "a Conv2d has hooks"),
        (
            {"dtype": "float16"},
            "the fused execution computes in float32, bfloat16, float64, not in float16",
        ),
        ({"kernels": NO_KERNELS}, NO_KERNELS.reason),
        ({"device": "cuda"}, NOT_FOR_CUDA),
        ({"device": "cuda", "kernels": NO_KERNELS}, NOT_FOR_CUDA),
        # Of several reasons, the one that another machine would not take away.
        ({"device": "cuda", "ineligibility": "a Conv2d has hooks"}, "a Conv2d has hooks"),
    ],
)
def test_auto_falls_back_to_the_reference(facts: dict[str, Any], reason: str):
    assert choose("auto", **facts) == Choice("reference", None, reason)


@pytest.mark.parametrize("execution", FUSED)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"ineligibility": "a Conv2d has hooks"}, "a Conv2d has hooks"),
        ({"dtype": "float16"}, "the fused execution computes in float32, bfloat16, float64, not in float16"),
    ],
)
def test_what_cannot_be_fused_is_refused(execution: Any, device: str, facts: dict[str, Any], reason: str):
    with pytest.raises(InputError) as caught:
        choose(execution, device=device, **facts)
    assert str(caught.value) == f"execution '{execution}' cannot run: {reason}; 'auto' takes what can"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("execution", FUSED)
@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({"kernels": NO_KERNELS}, NO_KERNELS.reason),
        ({"device": "cuda"}, NOT_FOR_CUDA),
    ],
)
def test_fused_does_without_native_kernels(execution: Any, facts: dict[str, Any], missing: str):
    expected = Choice(execution, "eager", f"as asked for, in PyTorch's operations: {missing}")
    assert choose(execution, **facts) == expected


@pytest.mark.parametrize(
    ("execution", "text"),
    [
        ("auto", "fused (native kernels, avx2)"),
        ("fused-lean", "fused-lean (as asked for, native kernels, avx2)"),
        ("recompute", "recompute (as asked for)"),
    ],
)
def test_a_choice_reads_as_a_sentence(execution: Any, text: str):
    assert str(choose(execution)) == text
