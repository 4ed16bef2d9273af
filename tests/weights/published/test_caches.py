"""Published weights are found where the libraries themselves look for them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import runpy
from pathlib import Path

import pytest
import torch

from densenets.errors import InputError
from densenets.weights.published.caches import find_weights, places, torch_hub_folder
from densenets.weights.published.manifest import PUBLISHED, Checksum

CONTENT = b"weights"
VARIABLES = (
    *("TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "KERAS_HOME"),
)
COMMIT, OLDER = 40 * "a", 40 * "b"

TORCHVISION = dataclasses.replace(
    PUBLISHED["torchvision/densenet121"],
    checksum=Checksum(kind="sha256", digits=hashlib.sha256(CONTENT).hexdigest()[:8]),
)
KERAS = dataclasses.replace(
    PUBLISHED["keras/densenet121"], checksum=Checksum(kind="md5", digits=hashlib.md5(CONTENT).hexdigest())
)
TIMM = PUBLISHED["timm/densenet121.ra_in1k"]
RADIOGRAPHS = PUBLISHED["torchxrayvision/densenet121-res224-all"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no variable that says otherwise."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


SETTINGS: list[dict[str, str]] = [
    {},
    {"XDG_CACHE_HOME": "/caches"},
    {"XDG_CACHE_HOME": "~/caches"},
    {"TORCH_HOME": "~/torches", "HF_HOME": "~/faces", "XDG_CACHE_HOME": "/caches"},
    {"HF_HUB_CACHE": "$HOME/hubs", "HF_HOME": "/faces"},
    {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/faces"},
    {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HUB_CACHE": "/newer"},
    {"HF_HOME": "$HOME/faces", "TORCH_HOME": "/torches"},
]


@pytest.mark.parametrize("variables", SETTINGS, ids=str)
def test_caches_are_where_their_libraries_have_them(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    constants = pytest.importorskip("huggingface_hub.constants")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(torch_hub_folder()) == os.path.join(torch.hub.get_dir(), "checkpoints")  # noqa: PTH118
    # It reads its variables when it is imported.
    theirs = Path(runpy.run_path(constants.__file__)["HF_HUB_CACHE"])
    put_in = theirs / "models--timm--densenet121.ra_in1k"
    monkeypatch.setattr("densenets.weights.published.caches._is_file", lambda path: True)
    monkeypatch.setattr(
        "densenets.weights.published.caches.read_text",
        lambda path: f"{COMMIT}" * (path == put_in / "refs/main"),
    )
    assert list(places(TIMM))[1:] == [put_in / "snapshots" / COMMIT / "model.safetensors"]


def test_the_newest_snapshot_is_the_one_that_the_hubs_client_takes(home: Path):
    hub = pytest.importorskip("huggingface_hub")
    cache = home / ".cache/huggingface/hub"
    repository = cache / "models--timm--densenet121.ra_in1k"
    older = put(repository / "snapshots" / OLDER / "model.safetensors")
    assert find_weights(TIMM) is None
    newer = put(repository / "snapshots" / COMMIT / "model.safetensors")
    for commit, path in ((OLDER, older), (COMMIT, newer)):
        put(repository / "refs/main", commit.encode())
        theirs = hub.try_to_load_from_cache(TIMM.hub_repository, "model.safetensors", cache_dir=cache)
        assert find_weights(TIMM) == path == Path(theirs)
    newer.unlink()
    assert find_weights(TIMM) is None
    put(repository / "refs/main", b"../../elsewhere")
    assert find_weights(TIMM) is None


def test_torchxrayvisions_and_keras_files_are_found_in_their_folders(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    utils = pytest.importorskip("torchxrayvision").utils
    path = put(Path(utils.get_cache_dir()) / RADIOGRAPHS.file_name)
    assert home in path.parents
    assert find_weights(RADIOGRAPHS) == path
    path = put(home / ".keras/models" / KERAS.file_name)
    assert find_weights(KERAS) == path
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "elsewhere"))
    assert find_weights(KERAS) is None
    path = put(tmp_path / "elsewhere/models" / KERAS.file_name)
    assert find_weights(KERAS) == path


@pytest.mark.parametrize("entry", [TORCHVISION, TIMM, RADIOGRAPHS, KERAS], ids=lambda entry: entry.package)
def test_a_given_folder_goes_before_torch_hubs(home: Path, tmp_path: Path, entry):
    assert find_weights(entry, tmp_path) is None
    in_hub = put(home / ".cache/torch/hub/checkpoints" / entry.file_name)
    assert find_weights(entry) == find_weights(entry, tmp_path) == in_hub
    given = put(tmp_path / entry.file_name)
    assert find_weights(entry, tmp_path) == given


def test_a_file_with_another_checksum_is_named_with_both(home: Path):
    path = put(torch_hub_folder() / TORCHVISION.file_name, b"broken")
    digits, published = hashlib.sha256(b"broken").hexdigest(), hashlib.sha256(CONTENT).hexdigest()[:8]
    with pytest.raises(InputError) as raised:
        find_weights(TORCHVISION)
    assert str(raised.value) == (
        f"{path} is broken or not torchvision/densenet121: its sha256 is {digits}, "
        f"the published one begins {published}; delete it"
    )


def test_a_folder_of_the_name_is_no_file(home: Path):
    (torch_hub_folder() / TORCHVISION.file_name).mkdir(parents=True)
    assert find_weights(TORCHVISION) is None


def test_a_file_that_cannot_be_read_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch):
    path = put(torch_hub_folder() / TORCHVISION.file_name)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=f"{path} cannot be read: Permission denied"):
        find_weights(TORCHVISION)


def test_a_folder_that_may_not_be_looked_into_has_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    put(torch_hub_folder() / TORCHVISION.file_name)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert find_weights(TORCHVISION) is None
