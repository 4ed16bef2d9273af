"""`densenets weights`: the list, one with all facts, and its download."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from file_server import ServedFile, served
from printed_rows import printed_rows

from densenets.cli import main as cli
from densenets.cli import weights as weights_module
from densenets.weights.published.manifest import PUBLISHED, Checksum

CONTENT = b"weights"
NAME = "torchvision/densenet121"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, without a proxy."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "KERAS_HOME", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def prints(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["weights", *arguments]) == 0
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["weights", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_list_names_all_with_what_is_known_of_them(capsys: pytest.CaptureFixture[str]):
    rows = printed_rows(prints(capsys))
    assert set(PUBLISHED) <= set(rows)
    assert rows[NAME] == ["densenet121", "30.845", "sha256", "74.434", "not", "stated", "no"]
    hub = ["densenet121", "-", "none", "published", "-", "apache-2.0", "no"]
    assert rows["timm/densenet121.ra_in1k"] == hub


def test_the_list_says_where_files_are_and_which_are_broken(capsys: pytest.CaptureFixture[str], home: Path):
    radiographs = PUBLISHED["torchxrayvision/densenet121-res224-nih"]
    found, broken = home / radiographs.file_name, home / PUBLISHED[NAME].file_name
    for path in (found, broken):
        path.write_bytes(CONTENT)
    listed = json.loads(prints(capsys, "--folder", str(home), "--json"))
    rows = {row["name"]: row for row in listed}
    assert list(rows) == list(PUBLISHED)
    assert rows[radiographs.name]["path"] == str(found)
    assert rows[NAME]["path"] is None
    assert "published one begins a639ec97; delete it" in rows[NAME]["problem"]
    text = prints(capsys, "--folder", str(home))
    assert "begins a639ec97" in " ".join(text.split())


def test_all_facts_of_one_are_shown(capsys: pytest.CaptureFixture[str]):
    text = " ".join(prints(capsys, NAME).split())
    for fact in (
        "densenet121 of 1000 classes, for 3x224x224 inputs",
        "https://download.pytorch.org/models/densenet121-a639ec97.pth",
        "size 30.845 MiB",
        "sha256 begins a639ec97",
        "the shorter side to 256, the central 224; of 0 ... 1 mean 0.485 0.456 0.406 and std 0.229 0.224",
        "interpolation bilinear",
        "the 1000 of ImageNet",
        "top-1 74.434%, top-5 91.972%",
        "licence not stated; the README says that",
        "source torchvision 0.29.1",
        "here no",
    ):
        assert fact in text
    text = " ".join(prints(capsys, "torchxrayvision/densenet121-res224-rsna").split())
    assert "classes -, -, -, -, -, -, -, -, Pneumonia, -, " in text
    assert "thresholds -, -, -, -, -, -, -, -, 0.134866, -, " in text
    assert "none: the file has no classifier" in prints(capsys, "keras/densenet121-notop")
    assert "md5 30ee3e1110167f948a6b9946edeeb738" in prints(capsys, "keras/densenet121-notop")


def test_the_json_of_one_has_all_facts(capsys: pytest.CaptureFixture[str]):
    name = "torchxrayvision/densenet121-res224-rsna"
    facts = json.loads(prints(capsys, name, "--json"))
    entry = PUBLISHED[name]
    assert facts["labels"] == list(entry.labels)
    assert facts["thresholds"] == list(entry.thresholds)
    assert facts["preprocessing"] == json.loads(json.dumps(entry.preprocessing.to_dict()))
    assert (facts["checksum"], facts["path"]) == (None, None)


def test_a_file_is_fetched_when_asked_for(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
):
    with served(ServedFile(CONTENT)) as file:
        entry = dataclasses.replace(
            PUBLISHED[NAME],
            url=file.url,
            mebibytes=None,
            checksum=Checksum(kind="sha256", digits=hashlib.sha256(CONTENT).hexdigest()[:8]),
        )
        monkeypatch.setattr(weights_module, "published_weights", lambda name: entry)
        prints(capsys, NAME)
        assert file.requests == []
        for arguments, folder in (
            ((), home / ".cache/torch/hub/checkpoints"),
            (("--folder", str(home / "own")), home / "own"),
        ):
            path = folder / entry.file_name
            assert cli.run(["weights", NAME, "--download", *arguments, "--json"]) == 0
            captured = capsys.readouterr()
            assert json.loads(captured.out)["path"] == str(path)
            assert captured.err == f"fetching {file.url} to {folder}\n"
            assert path.read_bytes() == CONTENT
            prints(capsys, NAME, "--download", *arguments)
        assert len(file.requests) == 2


def test_wrong_input_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert "--download needs a name; densenets weights lists them" in fails(capsys, "--download")
    assert "unknown weights 'torchvision/densenet12'; did you mean" in fails(capsys, "torchvision/densenet12")
    assert "torchvision has several; name one of" in fails(capsys, "torchvision")
