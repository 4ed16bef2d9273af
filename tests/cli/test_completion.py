"""The completions, asked of the shells themselves where they are there."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from densenets.cli import main as cli
from densenets.cli.verbs import ANALYSES, VERBS
from densenets.training.recipes import recipe_names

# What is typed, and what must be proposed for its last word; "..." where others may be too.
ASKED = [
    (("tr",), ["train"]),
    (("train", "cifar10-q"), ["cifar10-quick"]),
    (("train", "any", "--training.prec"), ["--training.precision"]),
    (("train", "any", "--training.precision", ""), ["bfloat16", "float32"]),
    (("analyze", "re"), ["reuse"]),
    (("analyze", "reuse", "run", "--normalization", "la"), ["largest"]),
    (("summary", "densenet12"), ["densenet121"]),
    (("draw", "densenet121", "--style", "ch"), ["chain"]),
    (("reproduce", "tab"), ["table2", "table3"]),
    (("completion", "ba"), ["bash"]),
    (("weights", "timm/densenet121.r"), ["timm/densenet121.ra_in1k"]),
    (("predict", "run", "pict"), ["picture one.png"]),
    (("predict", "run", "--to"), ["--top"]),
    (("--vers",), ["--version"]),
]


@pytest.fixture
def script(capsys, tmp_path, monkeypatch, request):
    """The script of a shell that is there, in a folder with a picture."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert cli.run(["completion", shell]) == 0
    file = tmp_path / f"densenets.{shell}"
    file.write_text(capsys.readouterr().out)
    (tmp_path / "picture one.png").touch()
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_recipe_and_analysis_is_in_the_script(capsys, shell):
    assert cli.run(["completion", shell]) == 0
    text = capsys.readouterr().out
    for name in (*VERBS, *recipe_names(), *(verb.name for verb in ANALYSES)):
        assert name in text


@pytest.mark.parametrize(("words", "expected"), ASKED, ids=[" ".join(words) for words, _ in ASKED])
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes(script, words, expected):
    code = '''source "$1"; shift; COMP_WORDS=(densenets "$@"); COMP_CWORD=$#; _densenets 2> /dev/null
              printf "%s\\n" "${COMPREPLY[@]}"'''
    done = subprocess.run(
        ["bash", "-c", code, "bash", script, *words], capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == expected


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_the_value_behind_an_equals_sign(script):
    code = """source "$1"; COMP_WORDS=(densenets train digits --training.precision = bf); COMP_CWORD=5
              _densenets; echo "${COMPREPLY[@]}" """
    done = subprocess.run(["bash", "-c", code, "bash", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "bfloat16"


@pytest.mark.parametrize(("words", "expected"), ASKED, ids=[" ".join(words) for words, _ in ASKED])
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes(script, words, expected):
    code = 'source "$argv[1]"; complete -C "$argv[2]"'
    line = " ".join(("densenets", *words))
    done = subprocess.run(["fish", "-c", code, script, line], capture_output=True, text=True, check=True)
    proposed = sorted(line.split("\t")[0].replace("\\", "") for line in done.stdout.splitlines())
    assert proposed == expected


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), ASKED, ids=[" ".join(words) for words, _ in ASKED])
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes(script, words, expected):
    # The first TAB writes what all proposals begin with.
    start = f"autoload -U compinit; compinit -u -D; source {script.name}; unsetopt beep\n"
    written = _type_in_zsh(start, f"densenets {' '.join(words)}")
    begun = os.path.commonprefix(expected)  # noqa: RUF071 - these are no paths
    assert " ".join(("densenets", *words[:-1], begun)) in written.replace("\\", "")


def _type_in_zsh(start: str, line: str) -> str:
    """What a terminal shows after TAB behind a line that is typed in a fresh zsh."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            shutil.which("zsh") or "zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> "}
        )
    try:
        os.write(terminal, f"stty cols 200; {start}echo re''ady\n".encode())
        _read_until(terminal, "ready")
        os.write(terminal, f"{line}\t".encode())
        return _read_until(terminal, None, seconds=1)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _read_until(terminal: int, text: str | None, seconds: float = 20) -> str:
    """What a terminal shows until it has shown a text, or for some seconds."""
    shown, end = "", time.monotonic() + seconds
    while time.monotonic() < end and (text is None or text not in shown):
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
