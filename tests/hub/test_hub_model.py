"""Checkpoints in folders and at a hub on this machine: what is pushed is what is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT, FakeHub, fake_hub
from safetensors.torch import save_file
from small_checkpoints import CLASSES, DETAILS, PREPROCESSING, save, trained_network
from torch import nn

import densenets
from densenets.checkpoint import Checkpoint, read_checkpoint
from densenets.errors import InputError
from densenets.hub.hub_model import HubModel

EVALUATION = {
    "split": "test",
    "images": 40,
    "top1_error": 12.5,
    "top5_error": 0.0,
    "loss": 0.5,
    "confusion": [[7, 1, 0, 0, 0], [1, 7, 0, 0, 0], *([0] * i + [8] + [0] * (4 - i) for i in (2, 3, 4))],
}


@pytest.fixture
def trained() -> HubModel:
    return HubModel(trained_network().eval(), CLASSES, PREPROCESSING, DETAILS)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub of this machine, which huggingface_hub takes for the Hub."""
    from huggingface_hub import constants

    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield hub


def are_the_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.model.config == other.model.config
    assert (one.classes, one.preprocessing) == (other.classes, other.preprocessing)
    weights = other.model.state_dict()
    assert one.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in one.model.state_dict().items())


# Folders


def test_a_saved_folder_has_a_checkpoint_and_a_card_and_gives_both_back(trained: HubModel, tmp_path: Path):
    trained.save_pretrained(tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "README.md",
        "model.safetensors",
    ]
    again = densenets.HubModel.from_pretrained(tmp_path / "new" / "folder")
    assert isinstance(again, Checkpoint)
    are_the_same(again, trained)
    assert again.details == DETAILS
    assert not again.model.training
    are_the_same(read_checkpoint(tmp_path / "new" / "folder" / "model.safetensors"), trained)


def test_a_run_is_loaded_with_its_result(tmp_path: Path):
    run = tmp_path / "run"
    save(run / "checkpoints" / "last.safetensors", trained_network())
    (run / "recipe.json").write_text(json.dumps({"training": {"report": "last"}}))
    assert HubModel.from_pretrained(run).details == DETAILS
    (run / "evaluation.json").write_text(json.dumps(EVALUATION))
    result = {name: EVALUATION[name] for name in ("split", "images", "top1_error", "top5_error")}
    loaded = HubModel.from_pretrained(run)
    assert loaded.details == DETAILS | {"evaluation": result}
    loaded.save_pretrained(tmp_path / "folder")
    assert HubModel.from_pretrained(tmp_path / "folder").details == loaded.details
    assert "top-1 error: 12.50%, on 40 test images" in (tmp_path / "folder" / "README.md").read_text()


def test_a_checkpoint_file_is_loaded_in_the_execution_that_is_asked_for(tmp_path: Path):
    save(tmp_path / "net.safetensors", trained_network())
    loaded = HubModel.from_pretrained(str(tmp_path / "net.safetensors"), execution="reference")
    assert loaded.model.execution == "reference"


def test_the_folder_of_the_images_stays_at_home(trained: HubModel, tmp_path: Path):
    data = {"name": "folder", "root": "/home/me/xrays", "image_size": 28}
    trained.details["data"] = data
    try:
        trained.save_pretrained(tmp_path)
    finally:
        del trained.details["data"]
    assert HubModel.from_pretrained(tmp_path).details["data"] == {"name": "folder", "image_size": 28}
    assert not [path for path in tmp_path.iterdir() if b"/home/me" in path.read_bytes()]


def test_another_readme_is_not_replaced(trained: HubModel, tmp_path: Path):
    trained.save_pretrained(tmp_path)
    trained.save_pretrained(tmp_path)  # the same one may be
    (tmp_path / "README.md").write_text("# What I wrote\n")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"README\.md is another one; move it away"):
        trained.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_changed_network_is_not_saved(trained: HubModel, tmp_path: Path):
    trained.model.classifier = nn.Sequential(trained.model.classifier)
    with pytest.raises(InputError, match="was not written: classifier is not what the network's config"):
        trained.save_pretrained(tmp_path)


# The hub


def test_what_is_pushed_is_what_is_fetched(trained: HubModel, hub: FakeHub):
    address = trained.push_to_hub("my-densenet", token="hf_token", private=True)
    assert address == f"{hub.url}/me/my-densenet/commit/{COMMIT}"
    assert sorted(hub.files["me/my-densenet"]) == ["README.md", "model.safetensors"]
    assert 'from_pretrained("me/my-densenet")' in hub.files["me/my-densenet"]["README.md"].decode()
    assert hub.cards[0]["library_name"] == "densenets"  # the Hub was asked whether it reads them
    fetched = HubModel.from_pretrained("me/my-densenet", token=False)
    are_the_same(fetched, trained)
    assert fetched.details == DETAILS
    assert hub.agents[-1].startswith(f"densenets/{densenets.__version__};")
    hub.refuses = 503  # what was fetched is kept
    are_the_same(HubModel.from_pretrained("me/my-densenet", local_files_only=True), trained)


def test_a_path_of_this_machine_goes_before_the_hub(trained: HubModel, hub: FakeHub):
    trained.save_pretrained("me/my-densenet")
    are_the_same(HubModel.from_pretrained("me/my-densenet"), trained)
    assert not hub.agents


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("me/other", "Repository Not Found"),
        ("me/empty", "Entry Not Found|not found"),
        ("runs/demo/last", "Repo id must"),
    ],
)
def test_what_the_hub_has_not_is_one_line(hub: FakeHub, name: str, reason: str):
    hub.files["me/empty"] = {}
    error_start = f"{name} is no path on this machine, nor can it be fetched from the Hub: "
    with pytest.raises(InputError, match=f"^{error_start}.*({reason})"):
        HubModel.from_pretrained(name, token=False)


def test_what_the_hub_refuses_is_one_line(trained: HubModel, hub: FakeHub):
    hub.refuses = 403
    with pytest.raises(InputError, match=r"^my-densenet was not pushed: .*403"):
        trained.push_to_hub("my-densenet", token="hf_token")
    assert not hub.files


def test_no_network_is_one_line(trained: HubModel, hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before it tries again
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(InputError, match=r"^my-densenet was not pushed: .*refused"):
        trained.push_to_hub("my-densenet", token="hf_token")
    with pytest.raises(InputError, match=r"^me/x is no path .* nor can it be fetched from the Hub: "):
        HubModel.from_pretrained("me/x", token=False)


def test_another_programs_weights_are_refused(hub: FakeHub, tmp_path: Path):
    save_file(trained_network().state_dict(), tmp_path / "theirs.safetensors", {"format": "pt"})
    hub.files["me/theirs"] = {"model.safetensors": (tmp_path / "theirs.safetensors").read_bytes()}
    with pytest.raises(InputError, match=r"was not written by densenets .* densenets convert"):
        HubModel.from_pretrained("me/theirs", token=False)


def test_nothing_is_made_at_the_hub_of_a_network_that_cannot_be_saved(trained: HubModel, hub: FakeHub):
    trained.model.classifier = nn.Sequential(trained.model.classifier)
    with pytest.raises(InputError, match="was not written"):
        trained.push_to_hub("my-densenet", token="hf_token")
    assert not hub.files


def test_without_the_extra_folders_are_read_and_the_hub_says_what_it_needs(
    trained: HubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    trained.save_pretrained(tmp_path)
    are_the_same(HubModel.from_pretrained(tmp_path), trained)
    advice = r'huggingface_hub, which is not installed; pip install "densenets\[hub\]" brings it'
    with pytest.raises(InputError, match=f"^push_to_hub needs {advice}"):
        trained.push_to_hub("my-densenet")
    with pytest.raises(InputError, match=f"is no path on this machine; .* needs {advice}"):
        HubModel.from_pretrained("me/my-densenet")


@pytest.mark.slow
def test_the_name_at_the_door_loads_no_client_of_the_hub():
    code = (
        "import sys, densenets; assert 'torch' not in sys.modules; densenets.HubModel; "
        "assert 'huggingface_hub' not in sys.modules; print('light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "light\n", done.stderr
