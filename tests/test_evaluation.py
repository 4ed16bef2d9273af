from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_processes import RANKS, run_ranks
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score
from torch import Tensor, nn

from densenets.checkpoint import Checkpoint
from densenets.data.batches import Batch, Shard, evaluation_batches
from densenets.data.image_sets import MemoryImages
from densenets.data.images import central_crop, read_image, ten_crops
from densenets.data.preprocessing import Preprocessing
from densenets.distributed import Ranks
from densenets.errors import InputError, NotFinite
from densenets.evaluation import (
    Evaluation,
    EvaluationOptions,
    evaluate,
    evaluate_checkpoint,
    write_evaluation,
)
from densenets.weights.pretrained import create_model

CPU = torch.device("cpu")
ALONE = Ranks(Shard(), CPU)


class Lookup(nn.Module):
    """A network that knows the logits of every image by the number that is its first pixel."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.logits[images[:, 0, 0, 0].round().long()]


def numbered(numbers: Sequence[int], labels: Tensor) -> Batch:
    """A batch of 1x1 images that show their numbers."""
    images = torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1)
    return Batch(images, labels, len(labels))


def random_case(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits and labels; the logits of every third image favour its label."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits[torch.arange(0, count, 3), labels[::3]] += 4
    return logits, labels


def test_hand_made_logits_give_hand_made_errors() -> None:
    # Five images of six classes: right, second, fifth and sixth guess, and right again.
    logits = torch.tensor(
        [
            [9, 1, 2, 3, 4, 5],
            [8, 9, 1, 2, 3, 4],
            [2, 9, 8, 7, 6, 1],
            [1, 9, 8, 7, 6, 5],
            [0, 0, 0, 0, 0, 9],
        ]
    ).float()
    labels = torch.tensor([0, 0, 0, 0, 5])
    result = evaluate(Lookup(logits), [numbered(range(5), labels)], 6, ALONE)
    assert result.images == 5
    assert result.top1_error == pytest.approx(60)
    assert result.top5_error == pytest.approx(20)
    assert result.confusion[0] == [1, 3, 0, 0, 0, 0]
    assert result.confusion[5] == [0, 0, 0, 0, 0, 1]


def test_the_loss_is_the_mean_cross_entropy_in_nats() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, torch.tensor(3.0).log()]])
    result = evaluate(Lookup(logits), [numbered(range(2), torch.tensor([0, 0]))], 2, ALONE)
    # Probabilities of 1/2 and 1/4.
    assert result.loss == pytest.approx((torch.tensor(2.0).log() + torch.tensor(4.0).log()).item() / 2)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_errors_and_loss_are_scikit_learns(batch_size: int) -> None:
    logits, labels = random_case(100, 12)
    batches = [numbered(chunk.tolist(), labels[chunk]) for chunk in torch.arange(100).split(batch_size)]
    result = evaluate(Lookup(logits), batches, 12, ALONE)
    names = range(12)
    assert result.confusion == confusion_matrix(labels, logits.argmax(dim=1), labels=names).tolist()
    top1 = top_k_accuracy_score(labels, logits, k=1, labels=names)
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=names)
    assert result.top1_error == pytest.approx(100 * (1 - top1))
    assert result.top5_error == pytest.approx(100 * (1 - top5))
    probabilities = logits.double().softmax(dim=1)
    # Losses are added in float32 within a batch.
    assert result.loss == pytest.approx(log_loss(labels, probabilities, labels=names), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 3, 4, 5])
def test_of_five_classes_and_fewer_every_class_is_in_the_top_five(classes: int) -> None:
    logits, labels = random_case(20, classes)
    result = evaluate(Lookup(logits), [numbered(range(20), labels)], classes, ALONE)
    assert result.top5_error == 0
    assert result.top1_error == pytest.approx(100 * (logits.argmax(dim=1) != labels).double().mean())


def test_the_logits_of_ten_crops_are_averaged() -> None:
    logits, _ = random_case(40, 6)
    labels = torch.tensor([0, 1, 2, 3])
    images = torch.arange(40.0).view(4, 10, 1, 1, 1)  # image i has the crops 10 i ... 10 i + 9
    crops = evaluate(Lookup(logits), [Batch(images, labels, 4)], 6, ALONE)
    mean = logits.view(4, 10, 6).mean(dim=1)
    one = evaluate(Lookup(mean), [numbered(range(4), labels)], 6, ALONE)
    assert crops.confusion == one.confusion
    assert crops.loss == pytest.approx(one.loss)
    assert crops.images == 4


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_in_evaluation_mode_and_left_as_it_was(training: bool) -> None:
    logits, labels = random_case(4, 3)
    model = Lookup(logits).train(training)
    evaluate(model, [numbered(range(4), labels)], 3, ALONE)
    assert model.training is training
    assert model.modes == [False]


class Recorder(nn.Module):
    """A network that remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 2)
        self.seen: list[tuple[torch.dtype, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer(images)
        strided = images.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((maps.dtype, strided, maps.requires_grad))
        return maps.mean(dim=(2, 3))


def test_precision_and_memory_format_reach_the_network_and_gradients_do_not() -> None:
    model, batch = Recorder(), Batch(torch.ones(2, 3, 4, 4), torch.tensor([0, 1]), 2)
    evaluate(model, [batch], 4, ALONE)
    evaluate(model, [batch], 4, ALONE, precision=torch.bfloat16, channels_last=True)
    assert model.seen == [(torch.float32, False, False), (torch.bfloat16, True, False)]


CONFUSED = Evaluation(
    images=10,
    loss=1.0,
    top1_error=40.0,
    top5_error=0.0,
    confusion=[[4, 0, 1], [0, 0, 0], [2, 1, 2]],
    seconds=2,
)


def test_rows_per_class_name_what_a_class_is_taken_for() -> None:
    assert CONFUSED.per_class(("ant", "bee", "cow")) == [
        {"class": "ant", "images": 5, "top1_error": 20.0, "most_often_taken_for": "cow"},
        {"class": "bee", "images": 0, "top1_error": None, "most_often_taken_for": None},
        {"class": "cow", "images": 5, "top1_error": 60.0, "most_often_taken_for": "ant"},
    ]


def test_a_class_without_mistakes_is_taken_for_nothing() -> None:
    faultless = dataclasses.replace(CONFUSED, confusion=[[5, 0], [0, 5]])
    assert [row["most_often_taken_for"] for row in faultless.per_class(("ant", "bee"))] == [None, None]


def test_an_evaluation_is_json() -> None:
    facts = json.loads(json.dumps(CONFUSED.to_dict(("ant", "bee", "cow"))))
    assert facts["confusion"] == CONFUSED.confusion
    assert facts["images_per_second"] == 5
    assert [row["class"] for row in facts["per_class"]] == ["ant", "bee", "cow"]


UNSCALED = Preprocessing(channels=1, image_size=1, resize=1, mean=(0.0,), std=(1 / 255,))


def seven_images() -> tuple[Lookup, MemoryImages]:
    logits, labels = random_case(7, 6)
    return Lookup(logits), MemoryImages(torch.arange(7, dtype=torch.uint8).view(-1, 1, 1, 1), labels)


def evaluate_share(ranks: Ranks) -> Evaluation:
    model, images = seven_images()
    batches = evaluation_batches(images, 3, ranks.shard, preprocessing=UNSCALED, device=CPU, workers=0)
    return evaluate(model, batches, 6, ranks)


def evaluation_of_rank(rank: int) -> dict[str, Any]:
    return dataclasses.asdict(evaluate_share(Ranks(Shard(rank, RANKS), CPU)))


def test_two_processes_find_exactly_what_one_does(tmp_path: Path) -> None:
    one = evaluate_share(ALONE)
    for found in run_ranks(evaluation_of_rank, tmp_path):
        two = Evaluation(**found)
        assert two.images == 7
        assert two.confusion == one.confusion
        assert two.top1_error == one.top1_error
        assert two.top5_error == one.top5_error
        # The ranks' batches are others, and losses are added in float32 within a batch.
        assert two.loss == pytest.approx(one.loss, rel=1e-6)


@pytest.fixture
def checkpoint(picture_folder: Path) -> Checkpoint:
    """An untrained network that knows the classes of the picture folder."""
    model = create_model("densenet-bc-10-4", num_classes=3, generator=torch.Generator().manual_seed(0)).eval()
    preprocessing = Preprocessing(channels=3, image_size=12, resize=14, mean=(0.5,) * 3, std=(0.3,) * 3)
    data = {
        "name": "folder",
        "root": str(picture_folder),
        "augmentation": ["normalize"],
        "normalization": "imagenet",
    }
    return Checkpoint(model, ("one", "two", "zero"), preprocessing, {"data": data})


@pytest.mark.parametrize("crops", [1, 10])
def test_a_checkpoint_is_evaluated_with_its_own_preprocessing(
    checkpoint: Checkpoint, picture_folder: Path, crops: int
) -> None:
    options = EvaluationOptions(crops=crops, batch_size=4, workers=0)
    result = evaluate_checkpoint(checkpoint, options, ALONE)
    crop = central_crop if crops == 1 else ten_crops
    expected = [[0] * 3 for _ in range(3)]
    for label, name in enumerate(checkpoint.classes):
        for path in (picture_folder / "val" / name).iterdir():
            pixels = crop(read_image(path, 3), checkpoint.preprocessing).view(crops, 3, 12, 12)
            with torch.no_grad():
                logits = checkpoint.model((pixels / 255 - 0.5) / 0.3).mean(dim=0)
            expected[label][int(logits.argmax())] += 1
    assert result.images == 9
    assert result.confusion == expected


def test_a_checkpoint_is_evaluated_where_its_data_lies_now(
    checkpoint: Checkpoint, picture_folder: Path
) -> None:
    moved = picture_folder.rename(picture_folder.with_name("moved"))
    with pytest.raises(InputError, match=f"no folder {picture_folder}"):
        evaluate_checkpoint(checkpoint, EvaluationOptions(workers=0), ALONE)
    by_root = evaluate_checkpoint(checkpoint, EvaluationOptions(root=moved, workers=0), ALONE)
    by_data = evaluate_checkpoint(checkpoint, EvaluationOptions(data=str(moved), workers=0), ALONE)
    assert by_root.confusion == by_data.confusion


def test_a_network_without_classes_is_not_evaluated() -> None:
    model = create_model("densenet-bc-10-4", generator=torch.Generator().manual_seed(0))
    preprocessing = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    features = Checkpoint(model, (), preprocessing, {})
    with pytest.raises(InputError, match="has no classes"):
        evaluate_checkpoint(features, EvaluationOptions(data="digits"), ALONE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_end_an_evaluation(value: float) -> None:
    logits, labels = random_case(6, 3)
    logits[[1, 4], [0, 2]] = value
    batches = [numbered(range(start, start + 3), labels[start : start + 3]) for start in (0, 3)]
    with pytest.raises(NotFinite, match="gives 2 of 6 images no finite logits"):
        evaluate(Lookup(logits), batches, 3, ALONE)


def test_an_evaluation_is_written_as_json(tmp_path: Path) -> None:
    facts = {"top1_error": 1.5, "confusion": [[999, 1], [1, 2]], "loss": math.nan}
    write_evaluation(facts, tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "evaluation.json"
    assert json.loads(written.read_text()) == {**facts, "loss": None}
