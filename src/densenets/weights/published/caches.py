"""Published weights on this machine: where libraries keep what they have fetched. Needs no PyTorch.

Nothing is fetched or written here; a file whose checksum is published is used only if it has it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from densenets.errors import InputError
from densenets.files import read_text
from densenets.weights.published.manifest import PublishedWeights

if TYPE_CHECKING:
    from hashlib import _Hash


def find_weights(entry: PublishedWeights, folder: Path | None = None) -> Path | None:
    """The file of published weights on this machine, checked; None if it is not here.

    It is looked for in the folder, in torch hub's, and in that of the library that publishes it.

    Args:
        entry: the weights.
        folder: to look into first.

    Raises:
        InputError: a file of the name has another checksum, or cannot be read.
    """
    for path in places(entry, folder):
        if _is_file(path):
            check_file(path, entry)
            return path
    return None


def check_file(path: Path, entry: PublishedWeights) -> None:
    """Compare a file with the checksum that is published of it, if any is.

    Raises:
        InputError: it has another one, or cannot be read.
    """
    if entry.checksum is None:
        return
    kind = entry.checksum.kind
    try:
        with path.open("rb") as file:
            digits = hashlib.file_digest(file, lambda: new_hash(kind)).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not entry.checksum.fits(digits):
        raise wrong_checksum(f"{path} is broken or not {entry.name}", digits, entry, "delete it")


def wrong_checksum(beginning: str, digits: str, entry: PublishedWeights, advice: str) -> InputError:
    """The error for a file that is not what was published."""
    assert entry.checksum is not None
    kind, published = entry.checksum.kind, entry.checksum.digits
    begins = "is" if len(published) == len(digits) else "begins"
    return InputError(
        f"{beginning}: its {kind} is {digits}, the published one {begins} {published}; {advice}"
    )


def new_hash(kind: Literal["sha256", "md5"]) -> _Hash:
    """A hash that has read nothing yet; it tells broken files, so MD5 is allowed everywhere."""
    return hashlib.new(kind, usedforsecurity=False)


def places(entry: PublishedWeights, folder: Path | None = None) -> Iterator[Path]:
    """Where a file of published weights may lie, in the order of the search."""
    if folder is not None:
        yield folder / entry.file_name
    yield torch_hub_folder() / entry.file_name
    if entry.hub_repository:
        yield from _in_hugging_face_cache(entry)
    if entry.package == "torchxrayvision":
        yield Path("~/.torchxrayvision/models_data").expanduser() / entry.file_name
    if entry.package == "keras":
        yield _keras_home() / "models" / entry.file_name


def torch_hub_folder() -> Path:
    """Where torch.hub keeps weights: below TORCH_HOME, else XDG_CACHE_HOME or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hugging_face_cache() -> Path:
    """Where huggingface_hub keeps repositories: HF_HUB_CACHE, or hub/ below HF_HOME or the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", str(Path(cache) / "huggingface"))
    default = os.environ.get("HUGGINGFACE_HUB_CACHE", str(Path(home) / "hub"))  # its name in older versions
    return Path(os.path.expandvars(Path(os.environ.get("HF_HUB_CACHE", default)).expanduser()))


def _in_hugging_face_cache(entry: PublishedWeights) -> Iterator[Path]:
    """The file in the snapshot that was the newest of the repository's main branch when it was asked for."""
    repository = _hugging_face_cache() / f"models--{entry.hub_repository.replace('/', '--')}"
    newest = repository / "refs" / "main"
    if _is_file(newest):
        commit = read_text(newest).strip()
        if re.fullmatch("[0-9a-f]{40}", commit):
            yield repository / "snapshots" / commit / entry.url.rpartition("/")[2]


def _keras_home() -> Path:
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    return Path("~/.keras").expanduser()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return False  # a folder that may not be looked into is somebody else's
