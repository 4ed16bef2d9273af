"""Time and size of exported networks: torchvision's DenseNet-121 as it is usually exported, and ours.

    python benchmarks/engines.py [CASE ...] [--rounds N] [--threads N] [--no-int8] [--out FILE]

Cases: batch-1 and batch-16, of 224x224. torchvision's network is exported by torch.onnx.export alone, ours as
`densenets export` does it; both have the same random weights and run in ONNX Runtime and OpenVINO by the same
code: float32, bfloat16 where OpenVINO has it here, and int8, whose ranges are from noise (its time is that of
any image, its accuracy nobody's). All variants of an engine run in turn, so that what else the machine does
meets all of them; a ratio is the median of those of the rounds, torchvision's time by a variant's. Prints
JSON with device and versions, and a line a variant on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchvision

from densenets.engines.onnxruntime_engine import OnnxRuntimeSession
from densenets.engines.openvino_engine import OpenVinoSession
from densenets.engines.openvino_library import core
from densenets.engines.session import Array
from densenets.export.inference_network import inference_network
from densenets.export.onnx_format import OnnxDraft, onnx_draft
from densenets.export.openvino_format import OpenVinoDraft, openvino_draft
from densenets.export.program import trace
from densenets.export.quiet import quiet
from densenets.files import write_json
from densenets.machine import environment
from densenets.weights.pretrained import create_model

_BATCHES = {"batch-1": 1, "batch-16": 16}
_SIDE = 224
_CALIBRATION_BATCHES = 4

Run = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network in an engine, ready to run.

    Attributes:
        name: whose network, and its precision.
        size: bytes of its file, or of its two files.
        run: images -> logits.
    """

    name: str
    size: int
    run: Run


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a variant.

    Attributes:
        case: the batch.
        engine: that ran it.
        variant: whose network, and its precision.
        bytes: of its file.
        milliseconds: of a run, the median.
        images_per_second: by that median.
        ratio: torchvision's time in float32 in the same engine by this one's, the median of the rounds.
        difference: the largest from torchvision's logits in PyTorch, as a share of their spread.
    """

    case: str
    engine: str
    variant: str
    bytes: int
    milliseconds: float
    images_per_second: float
    ratio: float
    difference: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(_BATCHES)}; all without one")
    parser.add_argument("--rounds", type=int, default=20, help="how often all variants run, in turn")
    parser.add_argument("--threads", type=int, default=0, help="of the engines; 0 for PyTorch's own choice")
    parser.add_argument("--no-int8", action="store_true", help="leave the variants of 8 bits out")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(_BATCHES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(_BATCHES)}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = [
        row
        for case in arguments.cases or _BATCHES
        for row in measured(case, arguments.rounds, int8=not arguments.no_int8)
    ]
    engines = {package: version(package) for package in ("onnx", "onnxruntime", "openvino", "nncf")}
    report = {
        "environment": environment(torch.device("cpu")) | engines,
        "rows": [asdict(row) for row in rows],
    }
    if arguments.out:
        write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def measured(case: str, rounds: int, *, int8: bool) -> list[Row]:
    """The variants of a case in both engines."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_BATCHES[case], 3, _SIDE, _SIDE, generator=generator)
    network = create_model("densenet121", execution="reference", generator=generator).eval()
    theirs = torchvision.models.densenet121().eval()
    theirs.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = theirs(images).numpy()
    program = trace(inference_network(network), images, ())
    usual = usual_onnx(theirs, images)
    threads = torch.get_num_threads()
    rows = []
    for engine, variants in (
        ("onnxruntime", onnx_variants(usual, onnx_draft(program), images, threads, int8=int8)),
        (
            "openvino",
            openvino_variants(usual, openvino_draft(program, images.shape), images, threads, int8=int8),
        ),
    ):
        rows += timed(case, engine, variants, images.numpy(), expected, rounds)
    return rows


def usual_onnx(network: torch.nn.Module, images: torch.Tensor) -> bytes:
    """A network as torch.onnx.export writes it."""
    with quiet():
        exported = torch.onnx.export(network, (images,), dynamo=True, verbose=False)
    assert exported is not None
    return exported.model_proto.SerializeToString()


def onnx_variants(
    usual: bytes, draft: OnnxDraft, images: torch.Tensor, threads: int, *, int8: bool
) -> list[Variant]:
    contents = {"torchvision float32": usual, "densenets float32": draft.contents({})[0]}
    if int8:
        contents["densenets int8"] = draft.quantized(noise(images)).contents({})[0]
    return [
        Variant(name=name, size=len(content), run=OnnxRuntimeSession(content, threads).run)
        for name, content in contents.items()
    ]


def openvino_variants(
    usual: bytes, draft: OpenVinoDraft, images: torch.Tensor, threads: int, *, int8: bool
) -> list[Variant]:
    theirs = OpenVinoDraft(core().read_model(usual)).contents({})
    ours = draft.contents({})
    variants = [
        openvino_variant("torchvision float32", theirs, threads, "f32"),
        openvino_variant("densenets float32", ours, threads, "f32"),
    ]
    if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        variants.append(openvino_variant("torchvision bfloat16", theirs, threads, "bf16"))
        variants.append(openvino_variant("densenets bfloat16", ours, threads, "bf16"))
    if int8:
        quantized = draft.quantized(noise(images)).contents({})
        variants.append(openvino_variant("densenets int8", quantized, threads, "f32"))
    return variants


def openvino_variant(name: str, contents: list[bytes], threads: int, precision: str) -> Variant:
    session = OpenVinoSession(contents, threads, precision)
    return Variant(name=name, size=sum(map(len, contents)), run=session.run)


def noise(images: torch.Tensor) -> list[Array]:
    """Batches that the ranges of 8 bits are from."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images.shape, generator=generator).numpy() for _ in range(_CALIBRATION_BATCHES)]


def timed(
    case: str, engine: str, variants: list[Variant], images: Array, expected: Array, rounds: int
) -> list[Row]:
    """Run all variants in turn; the first run of each is not timed, but compared with PyTorch."""
    spread = float(expected.max() - expected.min())
    differences = {v.name: float(np.abs(v.run(images) - expected).max()) / spread for v in variants}
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        for variant in variants if number % 2 else variants[::-1]:
            started = time.perf_counter()
            variant.run(images)
            seconds[variant.name].append(time.perf_counter() - started)
    baseline = seconds[variants[0].name]
    rows = []
    for variant in variants:
        own = seconds[variant.name]
        median = statistics.median(own)
        rows.append(
            Row(
                case=case,
                engine=engine,
                variant=variant.name,
                bytes=variant.size,
                milliseconds=1000 * median,
                images_per_second=len(images) / median,
                ratio=statistics.median(theirs / ours for theirs, ours in zip(baseline, own, strict=True)),
                difference=differences[variant.name],
            )
        )
        row = rows[-1]
        print(
            f"{case} {engine:11} {row.variant:20} {row.milliseconds:8.1f} ms "
            f"{row.images_per_second:7.1f} images/s {row.bytes / 1e6:6.1f} MB, "
            f"{row.ratio:.2f} times torchvision's speed, logits differ by {row.difference:.1g}",
            file=sys.stderr,
        )
    return rows


if __name__ == "__main__":
    main()
