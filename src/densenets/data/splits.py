"""Training, validation and test images of a run, and the record by which a resumed run recognises them."""

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

from densenets.data.image_sets import FileImages, Images
from densenets.data.preprocessing import Preprocessing

EvaluatedSplit = Literal["validation", "test"]


@dataclass(frozen=True)
class SplitRecord:
    """Count, digest and place of the images of a split, by which a resumed run recognises them.

    Attributes:
        images: number of images, those that cannot be decoded included.
        digest: SHA-256 of their labels, in order, and of their paths below the root if they are files.
        source: where they lie, for people.
        absent: classes without an image.
        left_out: number of images that cannot be decoded and are left out.
    """

    images: int
    digest: str
    source: str
    absent: tuple[str, ...] = ()
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields that a run's folder and its checkpoints hold."""
        return {"images": self.images, "digest": self.digest, "source": self.source}

    def matches(self, saved: Any) -> bool:
        """Whether a `to_dict` of an earlier start is of the same images, wherever they lay."""
        return isinstance(saved, Mapping) and (saved.get("images"), saved.get("digest")) == (
            self.images,
            self.digest,
        )


@dataclass(frozen=True)
class DataSplits:
    """Training, validation and test images of a run, with classes and preprocessing.

    Attributes:
        training: training images.
        validation: images that are evaluated between epochs and choose the best checkpoint; None if none.
        test: images that the result is reported on, and that choose nothing; None if there are none.
        classes: names of the classes; a label is a place in it.
        preprocessing: from a picture to the network's input, in evaluation and prediction.
        records: split -> the record of its images.
        unused: names of the folders beside them that are no split.
        left_out: indices, among all training images, of those that cannot be decoded.
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
    def evaluation_split(self) -> EvaluatedSplit:
        """The split that is evaluated between epochs; the test images choose nothing."""
        return "validation" if self.validation is not None else "test"

    @property
    def reported(self) -> EvaluatedSplit:
        """The split that the result is measured on."""
        return "test" if self.test is not None else "validation"

    def images_of(self, split: EvaluatedSplit) -> Images:
        """The images of a split that is not empty."""
        images = self.validation if split == "validation" else self.test
        assert images is not None
        return images

    def to(self, device: torch.device) -> DataSplits:
        """The same splits, with images in memory moved to a device."""
        validation, test = (
            None if images is None else images.to(device) for images in (self.validation, self.test)
        )
        training = self.training.to(device)
        return dataclasses.replace(self, training=training, validation=validation, test=test)

    def record(self) -> dict[str, Any]:
        """The classes in order and the record of each split, as JSON: a resumed run must have the same."""
        splits = ("training", "validation", "test")
        records = {
            split: self.records[split].to_dict() if split in self.records else None for split in splits
        }
        return {"classes": list(self.classes), **records}

    def difference(self, saved: Any) -> str:
        """The first difference from the `record` of an earlier start, for people; "" if it is the same."""
        saved = saved if isinstance(saved, Mapping) else {}
        classes = saved.get("classes", list(self.classes))
        if not isinstance(classes, list):
            return "the classes at the start are not known"
        if classes != list(self.classes):
            return f"the classes are not the same: {class_difference(self.classes, classes)}"
        for split in ("training", "validation", "test"):
            record, at_start = self.records.get(split), saved.get(split)
            if split in saved and not (record.matches(at_start) if record else at_start is None):
                then = at_start.get("images") if isinstance(at_start, Mapping) else 0
                now = record.images if record else 0
                return (
                    f"the {split} images are not the same ({now} now, {then} at the start, or by other names)"
                )
        return ""

    def summary_lines(self) -> list[str]:
        """Lines for people: images, classes and folder of each split, and which split is missing."""
        lines = [f"{split}: {self._summary_line(record)}" for split, record in self.records.items()]
        if self.validation is None:
            lines.append(
                "validation: none (--data.held-out holds images out), so the last epoch is the result and no "
                "best checkpoint is written; the test error shown between epochs chooses nothing"
            )
        elif self.test is None:
            lines.append("test: none, so the result is a validation error")
        if self.unused:
            lines.append(f"folders without a role, not read: {', '.join(self.unused[:10])}")
        return lines

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


def class_difference(classes: Sequence[str], expected: Sequence[str]) -> str:
    """How a list of classes differs from the expected one, for people: names new or gone, or the order."""
    new = [name for name in classes if name not in expected]
    gone = [name for name in expected if name not in classes]
    changes = [
        f"{', '.join(map(repr, names[:5]))} {'is' if len(names) == 1 else 'are'} {change}"
        for names, change in ((new, "new"), (gone, "gone"))
        if names
    ]
    return " and ".join(changes) or "they are in another order"


def record_of(
    images: Images, decodable: Images, root: Path, source: str, classes: tuple[str, ...]
) -> SplitRecord:
    """The record of a split's images.

    Args:
        images: all of them, whether they can be decoded or not.
        decodable: those that are used; the others cannot be decoded.
        root: folder that the digest's paths are relative to.
        source: where they lie, for people.
        classes: names of all classes.
    """
    left_out = len(images) - len(decodable)
    absent = _absent_classes(decodable.labels, classes)
    return SplitRecord(len(images), _digest(images, root), source, absent, left_out)


def _digest(images: Images, root: Path) -> str:
    digest = hashlib.sha256(images.labels.cpu().numpy().tobytes())
    if isinstance(images, FileImages):
        start = len(os.fsencode(root / "_")) - 1  # of a name below the root
        names = b"\0".join(os.fsencode(path)[start:] for path in images.paths)
        digest.update(names.replace(os.fsencode(os.sep), b"/"))  # the same digest on every system
    return digest.hexdigest()


def _absent_classes(labels: Tensor, classes: tuple[str, ...]) -> tuple[str, ...]:
    counts = torch.bincount(labels.cpu(), minlength=len(classes))
    return tuple(name for name, count in zip(classes, counts.tolist(), strict=True) if not count)
