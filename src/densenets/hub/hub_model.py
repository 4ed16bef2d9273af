"""Checkpoints at the Hugging Face Hub, and in folders as it has them: model.safetensors and a model card.

model.safetensors is an ordinary checkpoint, which rebuilds everything; reading one executes no code. The
card, README.md, is written from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from densenets.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from densenets.errors import InputError
from densenets.extras import require
from densenets.files import read_text, write_bytes
from densenets.hub.model_card import model_card
from densenets.ops.execution import Execution
from densenets.records import read_evaluation

WEIGHTS_NAME, CARD_NAME = "model.safetensors", "README.md"


@dataclass(frozen=True)
class HubModel(Checkpoint):
    """A checkpoint with the methods and arguments of huggingface_hub's ModelHubMixin.

    The mixin itself is for modules that a config.json rebuilds; here one file does, and nothing is set later.

        import densenets
        densenets.HubModel.from_pretrained("runs/demo").save_pretrained("my-densenet")
        model = densenets.HubModel.from_pretrained("my-densenet").model
    """

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        execution: Execution = "auto",
    ) -> Self:
        """Read a checkpoint of this machine or of the Hub.

        A run's result (evaluation.json) is added to the details, so that the model card tells it.

        Args:
            source: a folder of `save_pretrained`, a run's folder or a checkpoint file; where there is no such
                path, the name of a repository at the Hub, such as "me/my-densenet".
            revision: branch, tag or commit of the repository; its main branch if not given.
            token: for private repositories; that of `hf auth login` if not given, none with False.
            cache_dir: where fetched files are kept; huggingface_hub's own folder if not given.
            force_download: fetch the file even if it is kept already.
            local_files_only: fetch nothing.
            execution: how the dense blocks run.

        Raises:
            InputError: there is neither such a path nor such a repository, the Hub cannot be reached, the
                file was not written by densenets or is broken; or huggingface_hub is not installed.
        """
        path = Path(source)
        if not path.exists():
            path = _fetched(str(source), revision, token, cache_dir, force_download, local_files_only)
        elif (path / WEIGHTS_NAME).is_file():
            path = path / WEIGHTS_NAME
        read = read_checkpoint(path, execution)
        details = read.details | (_result(path, read.classes) if path.is_dir() else {})
        return cls(read.model, read.classes, read.preprocessing, details)

    def save_pretrained(self, save_directory: str | Path, *, repo_id: str = "") -> None:
        """Write model.safetensors and README.md into a folder, each atomically.

        The folder of the training images, which is of one machine, does not stand in the file.

        Args:
            save_directory: made if it is not there.
            repo_id: the repository that the card speaks of; the folder's name if not given.

        Raises:
            InputError: the network was changed since it was built, another README.md is there, the folder
                cannot be written, or the disk is full.
        """
        folder = Path(save_directory)
        card = model_card(self, repo_id or folder.resolve().name)
        path = folder / CARD_NAME
        if path.exists() and read_text(path) != card:
            raise InputError(
                f"{path} is another one; move it away, and the card of this checkpoint is written"
            )
        self._save_weights(folder)
        write_bytes(path, card.encode())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push model using huggingface_hub.",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Write the checkpoint and its model card to a repository at the Hub, as one commit.

        A card that is there is replaced, as all files are whose name the commit has.

        Args:
            repo_id: the repository, such as "me/my-densenet"; made if it is not there.
            commit_message: of the commit.
            private: whether a repository that is made is private; as its owner has chosen if not given.
            token: that of `hf auth login` if not given.
            branch: of the commit; main if not given.
            create_pr: open a pull request instead of writing to the branch.

        Returns:
            The address of the commit.

        Raises:
            InputError: the network was changed since it was built, the Hub cannot be reached or refuses it,
                or huggingface_hub is not installed.
        """
        require("hub", "push_to_hub")
        from huggingface_hub import HfApi

        from densenets import __version__

        with TemporaryDirectory() as name, _errors_of_the_hub(f"{repo_id} was not pushed"):
            folder = Path(name)
            self._save_weights(folder)
            api = HfApi(token=token, library_name="densenets", library_version=__version__)
            full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            write_bytes(folder / CARD_NAME, model_card(self, full_id).encode())
            commit = api.upload_folder(
                repo_id=full_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
            )
        return str(commit.commit_url)

    def _save_weights(self, folder: Path) -> None:
        details = dict(self.details)
        if isinstance(data := details.get("data"), dict):
            details["data"] = {field: value for field, value in data.items() if field != "root"}
        save_checkpoint(
            folder / WEIGHTS_NAME,
            self.model.state_dict(),
            self.model.config,
            self.classes,
            self.preprocessing,
            details,
        )


def _result(run: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    """The result of a run that has come to its end, for the details; empty before."""
    evaluation = read_evaluation(run / "evaluation.json", classes)
    if evaluation is None:
        return {}
    fields = {
        "split": evaluation.reported_split,
        "images": evaluation.images,
        "top1_error": evaluation.top1_error,
        "top5_error": evaluation.top5_error,
    }
    return {"evaluation": fields}


def _fetched(
    repo_id: str,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    force_download: bool,
    local_files_only: bool,
) -> Path:
    """The checkpoint of a repository at the Hub, in the folder where huggingface_hub keeps it."""
    require("hub", f"{repo_id} is no path on this machine; what is fetched from the Hub")
    from huggingface_hub import hf_hub_download

    from densenets import __version__

    with _errors_of_the_hub(f"{repo_id} is no path on this machine, nor can it be fetched from the Hub"):
        file = hf_hub_download(
            repo_id,
            WEIGHTS_NAME,
            revision=revision,
            library_name="densenets",
            library_version=__version__,
            cache_dir=cache_dir,
            force_download=force_download,
            token=token,
            local_files_only=local_files_only,
        )
    return Path(file)


@contextlib.contextmanager
def _errors_of_the_hub(error_start: str) -> Iterator[None]:
    """Turn what the network, the Hub and names that it refuses raise into an `InputError`."""
    from huggingface_hub import errors

    known = (
        errors.HTTPError,  # type: ignore[attr-defined]  # of the HTTP library that huggingface_hub has
        errors.EntryNotFoundError,
        errors.HFValidationError,
        errors.LocalTokenNotFoundError,
        errors.OfflineModeIsEnabled,
    )
    try:
        yield
    except known as error:
        raise InputError(f"{error_start}: {' '.join(str(error).split())}") from error
