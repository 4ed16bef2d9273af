"""The verb embed: what a network's classifier reads of pictures, as a table for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from densenets.cli.command import Command
from densenets.cli.picture_options import on_broken, shown
from densenets.cli.unfinished_run import tell_if_unfinished
from densenets.errors import InputError
from densenets.extras import require
from densenets.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EmbedOptions:
    """Which pictures are embedded, and where their features go."""

    checkpoint: Path
    """A run's folder, or a checkpoint file."""
    files: tuple[Path, ...]
    """Pictures, and folders of pictures."""
    out: Path = Path("embeddings.npz")
    """File for paths and features: .npz of NumPy, or .parquet."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    batch_size: int = 32
    """Pictures that are computed together."""
    skip_broken: bool = False
    """Leave out pictures that cannot be decoded, naming them."""


def embed(options: EmbedOptions) -> None:
    """Write the pooled features of pictures, a row a picture, in the order of the files."""
    if options.batch_size < 1:
        raise InputError("--batch-size is at least 1")
    if not options.files:
        raise InputError("name at least one picture, or a folder of pictures, behind the checkpoint")
    form = options.out.suffix.lower()
    if form not in (".npz", ".parquet"):
        raise InputError(f"--out must end in .npz or .parquet, got {options.out}")
    if form == ".parquet":
        require("parquet", f"embed --out {options.out}")
    from densenets import prediction
    from densenets.checkpoint import read_checkpoint
    from densenets.engines.engine import is_exported
    from densenets.machine import choose_device

    if is_exported(options.checkpoint):
        raise prediction.logits_only(options.checkpoint)
    checkpoint = read_checkpoint(options.checkpoint)
    tell_if_unfinished(options.checkpoint, checkpoint.details)
    paths = prediction.find_images(options.files)
    embedded = prediction.embed(
        checkpoint,
        paths,
        device=choose_device(options.device),
        batch_size=options.batch_size,
        on_broken=on_broken(skip=options.skip_broken),
    )
    count, width = write_embeddings(shown(embedded, "Embedding", len(paths)), options.out)
    print(f"{options.out}: {width} features of each of {count} pictures")


COMMAND = Command(title="embed", options=EmbedOptions, call=embed)


def write_embeddings(embedded: Iterable[tuple[Path, Tensor]], out: Path) -> tuple[int, int]:
    r"""Write the columns `path` and `features` (.parquet), or the arrays `paths` and `features` (.npz).

    Features are float32, a list of one length a row, or N x num_features. A name's byte that is no UTF-8
    stands as in a Python string (`\udcff`), as `predict` writes it.

    Args:
        embedded: at least one path, with its features; made as they are asked for.
        out: the file, written whole or not at all.

    Returns:
        N and num_features.

    Raises:
        InputError: a picture cannot be read, or the file cannot be written.
    """
    import numpy as np

    rows = [(str(path).encode(errors="backslashreplace").decode(), vector) for path, vector in embedded]
    names, features = [name for name, _ in rows], np.stack([vector.numpy() for _, vector in rows])
    count, width = features.shape
    if out.suffix.lower() == ".npz":
        write_atomically(out, lambda file: np.savez(file, paths=np.array(names), features=features))
        return count, width
    import pyarrow
    from pyarrow import parquet

    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), width)
    table = pyarrow.table({"path": pyarrow.array(names, pyarrow.string()), "features": lists})
    write_atomically(out, lambda file: parquet.write_table(table, file))
    return count, width
