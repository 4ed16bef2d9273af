"""`densenets draw` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_checkpoints import save, trained_network

from densenets.cli import main as cli


def test_the_papers_worked_example_is_one_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "block.svg"
    arguments = ["--layers", "5", "--growth-rate", "4", "--input", "1x32x32", "--out", str(out)]
    assert cli.run(["draw", "dense-block", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "The layers read 1, 5, 9, 13, 17 and the transition reads 21; 15 connections." in printed
    assert f"drawn in {out}" in printed
    by_numbers = out.read_bytes()
    # These are what it draws unasked.
    assert cli.run(["draw", "dense-block", "--out", str(out)]) == 0
    assert out.read_bytes() == by_numbers
    assert ">reads 21</text>" in out.read_text()


def test_a_network_is_drawn_in_the_current_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["draw", "densenet-40-12", "--num-classes", "100"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["network.svg"]
    text = Path("network.svg").read_text()
    assert "448 → 100 classes" in text
    assert "1,060,132 parameters" in text  # 90 classes more, of 448 weights and a bias
    assert "densenet-40-12: 1,060,132 parameters" in capsys.readouterr().out


def test_a_checkpoint_is_drawn_as_what_it_holds(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "small\x1b.safetensors", tmp_path / "deep" / "network.svg"
    save(checkpoint, trained_network())
    assert (
        cli.run(["draw", str(checkpoint), "--input", "3x64x64", "--style", "chain", "--out", str(out)]) == 0
    )
    text = out.read_text()
    # 9 channels of the stem, two layers of 4, of which 0.3 go on.
    assert "9 → 17 channels" in text
    assert "17 → 5" in text
    assert "17 → 5 classes" in text
    assert "small\\x1b.safetensors" in text


WRONG = {
    "densenet-bc-100": "unknown model 'densenet-bc-100'; did you mean densenet-bc-190-40",
    "resnet50 --style block": "resnet50 has no dense blocks; take --style network or --style chain",
    "densenet121 --block 5": "block must be in 1 ... 4, the dense blocks of densenet121, got 5",
    "densenet121 --style chain --block 1": "the style chain draws all blocks; leave --block out",
    "densenet121 --style tree": "--style must be auto, block, network or chain, got 'tree'",
    "densenet121 --out network.gif": "--out must end in .svg, .png or .pdf, got network.gif",
    "densenet121 --out network": "--out must end in .svg, .png or .pdf, got network",
    "densenet121 --out /dev/null/network.svg": "cannot write /dev/null/network.svg",
    "densenet121 --input 3x8x8": "input 3x8x8 is too small for this network; at least 29x29",
    "densenet121 --input 3x": "--input 3x is no shape",
    "dense-block --layers 0": "block_layers must be at least 1 in every block",
    "dense-block --layers 257": "a dense block is drawn up to 256 layers, this one has 257",
    "dense-block --style chain": "dense-block is one dense block; leave --style and --block out",
    "resnet1202 --style network": "up to 400 layers, resnet1202 has 600; take --style chain",
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.items(), ids=WRONG.keys())
def test_wrong_input_gets_one_line_and_draws_nothing(
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["draw", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_needs_no_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys; from densenets.cli.main import run;"
        f"code = run(['draw', 'densenet121', '--out', {str(tmp_path / 'network.svg')!r}]);"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
