"""What the documents show runs: blocks, commands in running text, and the examples of docstrings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from commands import Command, is_command, reaches_first_work, read_commands, run
from documents import DOCUMENTS, ROOT, SOURCE, Block, blocks, docstrings, examples, name_of, prompted, spans

BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
SHELL = [block for block in BLOCKS if block.language == "sh"]

# What stands for what a reader is to put there, the longer first.
STAND_INS = {
    "evaluate RUN --column": "evaluate fractalnet.safetensors --data cifar10 --column",
    "evaluate RUN --data imagenet": "evaluate xrays.safetensors --data imagenet",
    "engines.py CASE": "engines.py batch-1",
    "inference.py CASE": "inference.py batch-1",
    "train_step.py CASE": "train_step.py bc-100-12",
    "test_unit.py -k NAME": "test_unit.py -k pytorch",
    "--out FILE": "--out made",
    "ANALYSIS": "reuse runs/demo",
    "ENGINE": "openvino",
    "CHECKPOINT": "densenet-bc-100-12.safetensors",
    "FILES": "photos",
    "FILE": "theirs.pth.tar --data cifar10",
    "FOLDER": "xrays",
    "IMAGE": "photos/cat/1.png",
    "MODEL": "densenet-bc-40-12",
    "N": "3",
    "NAME": "resnet20",
    "RECIPE": "cifar10-densenet-bc-40-12",
    "RUN": "runs/cifar10-quick",
    "SHELL": "bash",
    "TARGET": "fig4",
    "VERB": "recipes",
    "WEIGHTS": "torchvision/densenet121",
}

# What the Python blocks take for granted.
GIVEN = {"images": torch.rand(2, 1, 64, 64)}

# What a command is shown for is how it refuses.
REFUSED = {"densenets summary densenet-bc-101-12": "must be 6n+4"}


def test_every_block_says_what_it_is():
    unknown = [block.place for block in BLOCKS if block.language not in ("sh", "python", "text", "console")]
    assert not unknown
    hidden = [block.place for block in BLOCKS if block.language == "text" and _has_command(block)]
    assert not hidden


def _has_command(block: Block) -> bool:
    return any(is_command(line.removeprefix("$ ")) for line in block.text.splitlines())


@pytest.mark.parametrize("block", SHELL, ids=[block.place for block in SHELL])
@pytest.mark.slow
def test_a_shell_block_runs(block: Block, world: Path):
    unused = dict(block.marked)
    for command in read_commands(block.text):
        text = " ".join(command)
        marks = [beginning for beginning, _ in block.marked if text.startswith(beginning)]
        if marks:
            assert unused.pop(marks[0], None), f"one mark, one command: {marks[0]}"
            assert reaches_first_work(_at_home(command)), f"{text} came to its end; it needs no mark"
        else:
            run(_at_home(command))
    assert not unused, "marks of no command"


def _at_home(command: Command) -> list[str]:
    """Paths of /data are those of our data."""
    return [word.removeprefix("/") if word.startswith("/data/") else word for word in command]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_blocks_run(path: Path, world: Path):
    names = dict(GIVEN)
    for block in blocks(path):
        if block.language == "python":
            assert not block.marked
            exec(compile(block.text, block.place, "exec"), names)


def _said() -> list[str]:
    """The commands in running text and before shown output, of the documents and of docstrings, each once."""
    texts = [span for path in DOCUMENTS for span in spans(path)]
    texts += [command for block in BLOCKS if block.language == "console" for command in prompted(block.text)]
    for path in sorted(SOURCE.rglob("*.py")):
        texts += [span for _, text in docstrings(path) for span in re.findall(r"`([^`]+)`", text)]
    for path in (*sorted(SOURCE.rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))):
        texts += [example for _, text in docstrings(path) for example in examples(text)]
    return sorted({text for text in texts if is_command(text)})


def _filled_in(text: str) -> str:
    """A command with something in every place that it leaves open, and all that it may have."""
    text = re.sub(r"(?<!\w)\[([^\]]*)\]", r"\1", text).replace("...", "")  # not "densenets[all]"'s brackets
    for name, stand_in in STAND_INS.items():
        text = re.sub(rf"(?<!\w){name}(?!\w)", stand_in, text)
    return text


@pytest.mark.parametrize("text", _said())
@pytest.mark.slow
def test_a_command_in_running_text_reaches_its_first_work(text: str, world: Path, capsys):
    (command,) = read_commands(_filled_in(text))
    if len(command) == 2 and command[0] == "densenets":
        command = [*command, "--help"]  # speaks of the verb
    if text in REFUSED:
        with pytest.raises(AssertionError, match="ended with 2"):
            run(command)
        assert REFUSED[text] in capsys.readouterr().err
    else:
        reaches_first_work(_at_home(command))


EXAMPLES = [
    (f"{path.relative_to(SOURCE)}: {name}", example)
    for path in sorted(SOURCE.rglob("*.py"))
    for name, text in docstrings(path)
    for example in examples(text)
    if not is_command(example)
]


@pytest.mark.parametrize(("place", "example"), EXAMPLES, ids=[place for place, _ in EXAMPLES])
def test_an_example_of_a_docstring_runs(place: str, example: str, world: Path):
    exec(compile(example, place, "exec"), {})


def test_examples_of_docstrings_have_one_form():
    assert any("densenets.load(" in example for _, example in EXAMPLES)
    for path in SOURCE.rglob("*.py"):
        assert ">>> " not in path.read_text(), f"{path}: examples here are indented blocks"
