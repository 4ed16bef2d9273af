"""The package where nothing is there that only Unix has, as on Windows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from poorer_python import Done, run_commands, write_pictures

pytestmark = pytest.mark.slow

_NETWORK = "densenet-bc-10-4"
_IMPORT = "import densenets"
_FORWARD = """
import torch, densenets
model = densenets.create_model("densenet-bc-10-4", num_classes=10)
print(tuple(model(torch.rand(2, 3, 32, 32)).shape))
"""
_LOAD = """
import torch, densenets
print(tuple(densenets.load("digits")(torch.rand(2, 1, 8, 8)).shape))
"""
_PEAK_MEMORY = """
from pathlib import Path
from densenets.profiling import peak_memory
peak_memory._STATUS = Path("nothing")  # there is no /proc either
peak = peak_memory.PeakMemory()
print(peak.measured_by, peak.read())
"""
_DIGITS = (
    *("train", "digits", "--model.name", _NETWORK, "--data.training-images", "64"),
    *("--training.epochs", "1", "--training.ema-decay", "0", "--out", "digits"),
)
_FOLDER = (
    *("train", "finetune", "--model.name", _NETWORK, "--data.root", "pictures", "--data.image-size", "16"),
    *("--data.workers", "1", "--training.epochs", "1", "--training.batch-size", "4", "--out", "folder"),
)
_COMMANDS = {
    "import": ("python", _IMPORT),
    "help": ("--help",),
    "forward pass": ("python", _FORWARD),
    "train on data in memory": _DIGITS,
    "resume": (*_DIGITS, "--resume"),
    "train on a folder": _FOLDER,
    "evaluate": ("evaluate", "folder", "--workers", "0"),
    "predict": ("predict", "folder", "pictures/val/one"),
    "load": ("python", _LOAD),
    "measure memory": ("python", _PEAK_MEMORY),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What came of the commands, which run in this order in one folder."""
    folder = tmp_path_factory.mktemp("windows")
    write_pictures(folder / "pictures")
    results = run_commands("unix", list(_COMMANDS.values()), folder)
    return dict(zip(_COMMANDS, results, strict=True))


@pytest.mark.parametrize("name", _COMMANDS)
def test_it_works(done: dict[str, Done], name: str) -> None:
    assert done[name].code == 0, done[name].stderr


def test_what_comes_out_is_right(done: dict[str, Done]) -> None:
    assert done["forward pass"].stdout == "(2, 10)\n"
    assert "native kernels were not built" in done["train on data in memory"].stderr
    for name, folder in (("train on data in memory", "digits"), ("train on a folder", "folder")):
        assert {f"{folder}/checkpoints/last.safetensors", f"{folder}/confusion.png"} <= set(
            done[name].written
        )
    assert "test error" in done["resume"].stderr
    assert "on 4 " in done["evaluate"].stdout
    assert len(done["predict"].stdout.splitlines()) == 1 + 2
    assert done["load"].stdout == "(2, 10)\n"
    assert done["measure memory"].stdout == "nothing None\n"


def test_what_only_unix_has_is_missing_there(tmp_path: Path) -> None:
    # So that the tests above say something.
    code = """
import densenets, sys
importer = {"__name__": "densenets.files", "__builtins__": __builtins__}
for line in ("import resource", "from os import fork", "import signal; signal.SIGKILL", "import fcntl"):
    try:
        exec(line, importer)
    except (ImportError, AttributeError):
        continue
    print(line)
exec("import sys; print(sys.platform)", importer)
"""
    (result,) = run_commands("unix", [("python", code)], tmp_path)
    assert result.stdout == "win32\n"
    assert sys.platform != "win32"
