"""Time and size of exported networks: torchvision's DenseNet-121 as it is usually exported, and ours.

    python benchmarks/engines.py [CASE ...] [--engines ENGINE ...] [--rounds N] [--threads N] [--no-int8]

Cases: batch-1 and batch-16, of 224x224. Engines: those of `densenets export`. torchvision's network is
exported by torch.onnx.export, openvino.convert_model, torch.export and AOTInductor alone, ours as `densenets
export` does it; both have the same random weights and are run by the same code: in float32, in bfloat16
where OpenVINO has it here (ONNX Runtime has none for the CPU), and in int8, torchvision's by the defaults of
ONNX Runtime and NNCF. Its ranges are from noise: its time is that of any image, its accuracy nobody's. All
variants of an engine run in turn, so that what else the machine does meets all of them; a ratio is the median
of those of the rounds, torchvision's time in float32 by a variant's. Prints JSON with device and versions,
and a line a variant on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchvision
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch.export import ExportedProgram

from densenets.engines.onnxruntime_engine import OnnxRuntimeSession
from densenets.engines.openvino_engine import OpenVinoSession, Precision
from densenets.engines.openvino_library import core, one_core, without_telemetry
from densenets.engines.session import Array
from densenets.engines.torch_engines import open_aot_inductor, open_torch_export
from densenets.export.draft import Draft
from densenets.export.inference_network import inference_network
from densenets.export.onnx_format import onnx_draft
from densenets.export.openvino_format import OpenVinoDraft, openvino_draft
from densenets.export.program import INPUT, trace
from densenets.export.quiet import quiet
from densenets.export.torch_formats import TorchExportDraft, aot_inductor_draft
from densenets.files import write_json
from densenets.machine import environment
from densenets.weights.pretrained import create_model

_BATCHES = {"batch-1": 1, "batch-16": 16}
_SIDE = 224
_CALIBRATION_BATCHES = 4
_PAUSE = 0.05  # seconds

_USUAL, _OURS = "torchvision", "densenets"

Run = Callable[[Array], Array]
Programs = Mapping[str, ExportedProgram]  # of both networks


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
    parser.add_argument("--engines", nargs="+", choices=_VARIANTS, default=list(_VARIANTS), metavar="ENGINE")
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
        for row in measured(case, arguments.engines, arguments.rounds, int8=not arguments.no_int8)
    ]
    engines = {package: version(package) for package in ("onnx", "onnxruntime", "openvino", "nncf")}
    report = {
        "environment": environment(torch.device("cpu")) | engines,
        "rows": [asdict(row) for row in rows],
    }
    if arguments.out:
        write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def measured(case: str, engines: Sequence[str], rounds: int, *, int8: bool) -> Iterator[Row]:
    """The variants of a case, engine by engine."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_BATCHES[case], 3, _SIDE, _SIDE, generator=generator)
    network = create_model("densenet121", execution="reference", generator=generator).eval()
    theirs = torchvision.models.densenet121().eval()
    theirs.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = theirs(images).numpy()
    programs = {_USUAL: trace(theirs, images, ()), _OURS: trace(inference_network(network), images, ())}
    for engine in engines:
        variants = _VARIANTS[engine](programs, noise(images) if int8 else None)
        yield from timed(case, engine, variants, images.numpy(), expected, rounds)


def onnx_variants(programs: Programs, calibration: Sequence[Array] | None) -> list[Variant]:
    """In float32, and in int8 by ONNX Runtime's defaults of the usual network and by our settings of ours."""
    with quiet():
        exported = torch.onnx.export(programs[_USUAL], dynamo=True, verbose=False, input_names=[INPUT])
    assert exported is not None
    usual, draft = exported.model_proto, onnx_draft(programs[_OURS])
    contents = {f"{_USUAL} float32": usual.SerializeToString(), f"{_OURS} float32": draft.contents({})[0]}
    if calibration:
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder, "int8.onnx")
            quantize_static(usual, path, Calibration(calibration))
            contents[f"{_USUAL} int8"] = path.read_bytes()
        contents[f"{_OURS} int8"] = draft.quantized(calibration).contents({})[0]
    threads = torch.get_num_threads()
    return [
        Variant(name=name, size=len(content), run=OnnxRuntimeSession(content, threads).run)
        for name, content in contents.items()
    ]


class Calibration(CalibrationDataReader):
    """Images as ONNX Runtime asks for them."""

    def __init__(self, images: Sequence[Array]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image}


def openvino_variants(programs: Programs, calibration: Sequence[Array] | None) -> list[Variant]:
    """In float32, bfloat16 where OpenVINO has it here, and in int8 by NNCF's defaults and by our settings."""
    shape = programs[_OURS].example_inputs[0][0].shape
    drafts = {name: openvino_draft(program, shape) for name, program in programs.items()}
    precisions: dict[str, Precision] = {"float32": "f32"}
    if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions["bfloat16"] = "bf16"
    variants = [
        openvino_variant(f"{name} {precision}", draft, how)
        for precision, how in precisions.items()
        for name, draft in drafts.items()
    ]
    if calibration:
        with one_core(), without_telemetry(), quiet():
            import nncf

            usual = nncf.quantize(drafts[_USUAL].model.clone(), nncf.Dataset(calibration))
        variants.append(openvino_variant(f"{_USUAL} int8", OpenVinoDraft(usual), "f32"))
        variants.append(openvino_variant(f"{_OURS} int8", drafts[_OURS].quantized(calibration), "f32"))
    return variants


def openvino_variant(name: str, draft: Draft, precision: Precision) -> Variant:
    contents = draft.contents({})
    session = OpenVinoSession(contents, torch.get_num_threads(), precision)
    return Variant(name=name, size=sum(map(len, contents)), run=session.run)


def torch_variants(programs: Programs, _: Sequence[Array] | None) -> list[Variant]:
    """Programs of torch.export, in float32."""
    contents = {name: TorchExportDraft(program).contents({})[0] for name, program in programs.items()}
    return [
        Variant(name=f"{name} float32", size=len(content), run=open_torch_export(content, {}, "float32").run)
        for name, content in contents.items()
    ]


def aot_inductor_variants(programs: Programs, _: Sequence[Array] | None) -> list[Variant]:
    """Packages of AOTInductor, in float32."""
    contents = {name: aot_inductor_draft(program).contents({})[0] for name, program in programs.items()}
    return [
        Variant(name=f"{name} float32", size=len(content), run=open_aot_inductor(content, {}, "float32").run)
        for name, content in contents.items()
    ]


_VARIANTS: dict[str, Callable[[Programs, Sequence[Array] | None], list[Variant]]] = {
    "onnxruntime": onnx_variants,
    "openvino": openvino_variants,
    "torch": torch_variants,
    "aot-inductor": aot_inductor_variants,
}


def noise(images: torch.Tensor) -> list[Array]:
    """Batches that the ranges of 8 bits are from."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images.shape, generator=generator).numpy() for _ in range(_CALIBRATION_BATCHES)]


def timed(
    case: str, engine: str, variants: list[Variant], images: Array, expected: Array, rounds: int
) -> list[Row]:
    """Run all variants in turn; the first run of each is not timed, but compared with PyTorch.

    Before each turn is a pause, and a run that is not timed: ONNX Runtime's threads wait for work busily, and
    would take a core from the next variant (a third of its speed, of two cores).
    """
    spread = float(expected.max() - expected.min())
    differences = {v.name: float(np.abs(v.run(images) - expected).max()) / spread for v in variants}
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        for variant in variants if number % 2 else variants[::-1]:
            time.sleep(_PAUSE)
            variant.run(images)
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
