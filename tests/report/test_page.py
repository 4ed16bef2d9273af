"""The page as text: what it holds, how large it is, and what it says where something is missing."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import small_config

from densenets.checkpoint import save_checkpoint
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.errors import InputError
from densenets.evaluation_options import EvaluationOptions
from densenets.models.create import build_network
from densenets.models.registry import named_config
from densenets.records import RunEvaluation
from densenets.report import content
from densenets.report.confusion import ConfusionPair, confusion_pairs, confusion_rows
from densenets.report.connection_map import block_maps, node_texts
from densenets.report.mistakes import Mistake
from densenets.report.overview import Overview, make_overview
from densenets.report.overview_config import OverviewConfig
from densenets.report.page import page_text, write_page
from densenets.weights.pretrained import create_model

SMALL = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.5,) * 3, std=(0.2,) * 3)


def overview_of(file: Path, **changes: object) -> Overview:
    config = OverviewConfig(source=file, evaluation=EvaluationOptions(), mistakes=0, measure=False)
    return make_overview(dataclasses.replace(config, **changes))  # type: ignore[arg-type]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = small_config()
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, build_network(config).state_dict(), config, tuple("abcde"), SMALL, {"by": "hand"})
    return path


def test_a_run_is_told_whole(digits_overview: Overview, digits_page: Path) -> None:
    text = digits_page.read_text(encoding="utf-8")
    assert digits_overview.evaluation is not None
    assert f"{digits_overview.evaluation.top1_error:.2f}%" in text
    for part in ("Learning curves", "Worst mistakes", "Feature reuse", "Memory and cost", "learning_rate"):
        assert part in text
    assert "pytest" in text  # the command that made it
    # Every row of the summary is there.
    for layer in digits_overview.facts.layers:
        assert f'<th scope="row">{layer.name}</th>' in text
    assert "No training step was measured" in text


def test_an_epoch_that_was_not_evaluated_has_its_training_error_alone(digits_overview: Overview) -> None:
    assert digits_overview.run is not None
    first, *others = digits_overview.run.epochs
    unevaluated = dataclasses.replace(first, split=None, evaluation_error=None, evaluation_loss=None)
    run = dataclasses.replace(digits_overview.run, epochs=(unevaluated, *others))
    text = page_text(dataclasses.replace(digits_overview, run=run))
    row = re.search(r'<th scope="row">1</th>(.*?)</tr>', text)
    assert row is not None
    error, loss = f"{first.train_error:.2f}", f"{first.train_loss:.4f}"
    assert re.findall(r"<td>(.*?)</td>", row[1]) == [error, "-", loss, "-"]


def test_nothing_is_fetched_from_anywhere(digits_page: Path) -> None:
    text = digits_page.read_text(encoding="utf-8")
    without_code = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", without_code)
    assert "default-src 'none'" in text


def test_what_nodes_say_is_json_of_the_architecture(digits_overview: Overview, digits_page: Path) -> None:
    found = re.search(r'id="nodes">(.*?)</script>', digits_page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    nodes = json.loads(found[1])
    assert digits_overview.reuse is not None
    texts = node_texts(digits_overview.facts, digits_overview.reuse)
    assert nodes == json.loads(json.dumps({key: dataclasses.asdict(text) for key, text in texts.items()}))
    # A node for each block's input, for each layer, and for what reads the block.
    assert len(nodes) == (3 + 2) + (2 + 2) + (4 + 2)
    assert nodes["b3n4"]["title"] == "denseblock3.denselayer4"
    assert [source[0] for source in nodes["b3n4"]["sources"]] == [
        "block's input",
        "layer 1",
        "layer 2",
        "layer 3",
    ]
    assert max(source[2] for source in nodes["b3n4"]["sources"]) == 1.0


def test_every_direct_connection_is_an_arc(digits_overview: Overview) -> None:
    assert digits_overview.reuse is not None
    maps = block_maps(digits_overview.facts, digits_overview.reuse)
    for block, layers in zip(maps, (3, 2, 4), strict=True):
        pairs = {(arc.source, arc.target) for arc in block.arcs}
        # The transition or classifier reads all that the last layer reads, and its maps.
        assert pairs == {(s, t) for t in range(1, layers + 2) for s in range(t)}
        assert len(block.nodes) == layers + 2
        assert max(arc.opacity for arc in block.arcs if arc.target == layers) == 1.0
    # Without what reads the block these are the paper's L (L + 1) / 2.
    assert len([arc for arc in maps[2].arcs if arc.target <= 4]) == 4 * 5 // 2


def test_pictures_are_in_the_page_as_they_are(digits_overview: Overview) -> None:
    pixels = torch.arange(3 * 8 * 6, dtype=torch.uint8).reshape(3, 8, 6)
    mistake = Mistake(
        name="x", true="a", true_probability=1e-9, predicted="b", predicted_probability=0.75, pixels=pixels
    )
    (shown,) = content.shown_mistakes([mistake])
    assert (shown.width, shown.height) == (6, 8)
    assert (shown.true_share, shown.predicted_share) == ("below 0.1%", "75.0%")
    kind, data = shown.image.split(",", 1)
    assert kind == "data:image/png;base64"
    decoded = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(decoded, pixels.permute(1, 2, 0).numpy())
    large = dataclasses.replace(mistake, pixels=torch.zeros(1, 224, 224, dtype=torch.uint8))
    assert content.shown_mistakes([large])[0].image.startswith("data:image/jpeg")
    assert len(content.shown_mistakes(digits_overview.mistakes)) == 5


def test_the_confusion_table_is_the_evaluations(digits_overview: Overview) -> None:
    found = digits_overview.evaluation
    assert found is not None
    rows = confusion_rows(digits_overview)
    assert [[cell.count for cell in row.cells] for row in rows] == found.confusion
    assert digits_overview.run is not None
    stored = json.loads((digits_overview.run.folder / "evaluation.json").read_text())
    for row, per_class in zip(rows, stored["per_class"], strict=True):
        assert row.error == f"{per_class['top1_error']:.1f}"


@pytest.mark.parametrize("count", [5, 40])
def test_names_of_any_bytes_are_on_the_page(tmp_path: Path, count: int) -> None:
    odd = ("caf\udce9", "a\nb\x1b[31m", "<b>&", "שלום 猫", *(f"class {number}" for number in range(36)))[
        :count
    ]
    config = dataclasses.replace(small_config(), num_classes=count)
    file = tmp_path / "odd\nname.safetensors"
    save_checkpoint(file, build_network(config).state_dict(), config, odd, SMALL, {"by": "caf\udce9"})
    found = RunEvaluation(
        images=count,
        top1_error=100.0,
        top5_error=0.0,
        loss=1.0,
        confusion=[[int(j == (i + 1) % count) for j in range(count)] for i in range(count)],
    )
    overview = dataclasses.replace(overview_of(file), evaluation=found)
    write_page(overview, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for name in (r"caf\udce9", r"a\nb\x1b[31m", "&lt;b&gt;&amp;", "שלום 猫", r"odd\nname"):
        assert name in text
    assert "\x1b" not in text


def test_many_classes_are_an_image_and_their_worst_pairs(checkpoint: Path) -> None:
    overview = overview_of(checkpoint)
    count = 40
    confusion = [[9 if i == j else 0 for j in range(count)] for i in range(count)]
    confusion[3][7], confusion[5][2] = 6, 1
    evaluation = RunEvaluation(top1_error=2.0, top5_error=0.0, loss=0.1, images=367, confusion=confusion)
    classes = tuple(f"class {number}" for number in range(count))
    many = dataclasses.replace(overview, classes=classes, evaluation=evaluation)
    assert confusion_rows(many) == []
    assert confusion_pairs(many) == [
        ConfusionPair(true="class 3", predicted="class 7", count=6, share="40%"),
        ConfusionPair(true="class 5", predicted="class 2", count=1, share="10%"),
    ]
    assert "Most frequent confusions" in page_text(many)


def test_a_bare_checkpoint_says_what_it_lacks(checkpoint: Path) -> None:
    overview = overview_of(checkpoint)
    text = page_text(overview)
    assert overview.default_path == checkpoint.with_suffix(".html")
    assert "Nothing was evaluated" in text
    assert "They were not looked for." in text
    assert '<th scope="row">by</th><td>hand</td>' in text
    looked_for = overview_of(checkpoint, mistakes=3)
    assert "does not say what it was trained on" in page_text(looked_for)


def test_a_densenet_121_stays_under_5_mb(tmp_path: Path) -> None:
    model = create_model("densenet121")
    names = tuple(f"class {number}" for number in range(1000))
    pixels = imagenet_preprocessing(3, 224, scale_only=False)
    save_checkpoint(tmp_path / "121.safetensors", model.state_dict(), model.config, names, pixels, {})
    overview = overview_of(tmp_path / "121.safetensors")
    assert overview.network == "densenet121"
    noise = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    mistake = Mistake(
        name="a", true="b", true_probability=0.1, predicted="c", predicted_probability=0.9, pixels=noise
    )
    random = np.random.default_rng(0)
    evaluation = RunEvaluation(
        top1_error=99.0,
        top5_error=95.0,
        loss=7.0,
        images=50_000,
        confusion=random.integers(0, 3, (1000, 1000)).tolist(),
    )
    full = dataclasses.replace(overview, mistakes=(mistake,) * 12, evaluation=evaluation)
    # Noise is the worst case of what pictures can take.
    assert write_page(full, tmp_path / "121.html") < 5e6


def test_another_family_has_a_page_without_the_map(tmp_path: Path) -> None:
    config = named_config("resnet8")
    path = tmp_path / "resnet.safetensors"
    weights = build_network(config).state_dict()
    save_checkpoint(path, weights, config, tuple("0123456789"), SMALL, {})
    text = page_text(overview_of(path))
    assert "A ResNet has no dense blocks" in text
    assert "Feature reuse" not in text
    assert '<th scope="row">layer3.0</th>' in text


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mistakes must be at least 0, got -1"):
        overview_of(tmp_path, mistakes=-1)
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        overview_of(tmp_path, evaluation=EvaluationOptions(batch_size=0))
    with pytest.raises(InputError, match="there is no run or checkpoint"):
        overview_of(tmp_path / "nothing")
