"""What a run reads, by the role that it plays, and what must stay the same when the run goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from densenets.data.preprocessing import Preprocessing
from densenets.data.sources import FileImages, Images

Watched = Literal["validation", "test"]


@dataclass(frozen=True)
class SplitRecord:
    """Count, digest and place of the images of a role, by which another start recognises them.

    Attributes:
        images: how many there are, those that cannot be decoded included.
        digest: of their names below the root and their classes, in order; of a named set, of the labels.
        source: where they lie, for people.
        absent: classes of which there are none.
        left_out: how many cannot be decoded and are left out.
    """

    images: int
    digest: str
    source: str
    absent: tuple[str, ...] = ()
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What a run's folder and its checkpoints say of it."""
        return {"images": self.images, "digest": self.digest, "source": self.source}

    def matches(self, noted: Any) -> bool:
        """Whether `to_dict` of an earlier start spoke of the same images, wherever they lay."""
        return isinstance(noted, Mapping) and (noted.get("images"), noted.get("digest")) == (
            self.images,
            self.digest,
        )


@dataclass(frozen=True)
class DataSplits:
    """Training, validation and test images of a run, with classes and preprocessing.

    Attributes:
        training: the images that are trained on.
        validation: what is watched while training and chooses the best checkpoint; None if there are none.
        test: what the result is reported on, and nothing is chosen by; None if there are none.
        classes: their names; a label is a place in it.
        preprocessing: what evaluation and prediction do to an image.
        records: of each role that is played, which images play it.
        unused: folders beside them that play no role.
        left_out: places, in the order of all training images, of those that cannot be decoded.
    """

    training: Images
    validation: Images | None
    test: Images | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    records: Mapping[str, SplitRecord]
    unused: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()

    @property
    def watched(self) -> Watched:
        """The role whose images are evaluated after every epoch; the test images choose nothing."""
        return "validation" if self.validation is not None else "test"

    @property
    def reported(self) -> Watched:
        """The role whose images the result is measured on."""
        return "test" if self.test is not None else "validation"

    def images_of(self, role: Watched) -> Images:
        """The images of a role that is played."""
        images = self.validation if role == "validation" else self.test
        assert images is not None
        return images

    def to(self, device: torch.device) -> DataSplits:
        """The same on a device."""
        validation, test = (
            None if images is None else images.to(device) for images in (self.validation, self.test)
        )
        training = self.training.to(device)
        return dataclasses.replace(self, training=training, validation=validation, test=test)

    def record(self) -> dict[str, Any]:
        """JSON of what must stay the same when a run is resumed: classes in order, images of each role."""
        roles = ("training", "validation", "test")
        noted = {role: self.records[role].to_dict() if role in self.records else None for role in roles}
        return {"classes": list(self.classes), **noted}

    def difference(self, noted: Any) -> str:
        """What differs from the `record` of an earlier start, for people; "" if it is the same."""
        noted = noted if isinstance(noted, Mapping) else {}
        classes = noted.get("classes", list(self.classes))
        if not isinstance(classes, list):
            return "the classes at the start are not known"
        if classes != list(self.classes):
            return f"the classes are not the same: {class_difference(self.classes, classes)}"
        for role in ("training", "validation", "test"):
            ours, theirs = self.records.get(role), noted.get(role)
            if role in noted and not (ours.matches(theirs) if ours else theirs is None):
                then = theirs.get("images") if isinstance(theirs, Mapping) else 0
                now = ours.images if ours else 0
                return (
                    f"the {role} images are not the same ({now} now, {then} at the start, or by other names)"
                )
        return ""

    def summary_lines(self) -> list[str]:
        """A line a role: images, classes and folder, for people."""
        said = [f"{role}: {self._summary_line(record)}" for role, record in self.records.items()]
        if self.validation is None:
            said.append(
                "validation: none (--data.held-out holds images out), so the last epoch is the result and no "
                "best checkpoint is written; the test error is shown after every epoch and chooses nothing"
            )
        elif self.test is None:
            said.append("test: none, so the result is a validation error")
        if self.unused:
            said.append(f"folders without a role, not read: {', '.join(self.unused[:10])}")
        return said

    def _summary_line(self, record: SplitRecord) -> str:
        line = (
            f"{record.images - record.left_out:,} images of {len(self.classes) - len(record.absent)} classes"
        )
        line += f" in {record.source}"
        if record.left_out:
            line += f"; {record.left_out} that cannot be decoded are left out"
        if record.absent:
            line += f"; none of {', '.join(record.absent[:5])}{', ...' if len(record.absent) > 5 else ''}"
        return line


def class_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """In what two lists of classes differ, for people: what is new in `ours`, what is gone, or the order."""
    new = [name for name in ours if name not in theirs]
    gone = [name for name in theirs if name not in ours]
    said = [
        f"{', '.join(map(repr, names[:5]))} {'is' if len(names) == 1 else 'are'} {what}"
        for names, what in ((new, "new"), (gone, "gone"))
        if names
    ]
    return " and ".join(said) or "they are in another order"


def record_of(
    images: Images, whole: Images, root: Path, source: str, classes: tuple[str, ...]
) -> SplitRecord:
    """The record of images that play a role.

    Args:
        images: all of them, whether they can be decoded or not.
        whole: those that can be decoded, or are believed to.
        root: where the names of files begin.
        source: where they lie, for people.
        classes: every class there is.
    """
    left_out = len(images) - len(whole)
    return SplitRecord(len(images), _digest(images, root), source, _absent(whole.labels, classes), left_out)


def _digest(images: Images, root: Path) -> str:
    digest = hashlib.sha256(images.labels.cpu().numpy().tobytes())
    if isinstance(images, FileImages):
        start = len(os.fsencode(root / "_")) - 1  # of a name below the root
        digest.update(b"\0".join(os.fsencode(path)[start:] for path in images.paths))
    return digest.hexdigest()


def _absent(labels: Tensor, classes: tuple[str, ...]) -> tuple[str, ...]:
    counts = torch.bincount(labels.cpu(), minlength=len(classes))
    return tuple(name for name, count in zip(classes, counts.tolist(), strict=True) if not count)
