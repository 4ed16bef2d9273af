"""What a model card says: read by huggingface_hub and by Markdown's parser, and its code is run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from small_checkpoints import CLASSES, DETAILS, PREPROCESSING, trained_network
from small_networks import small_config

from densenets.checkpoint import Checkpoint
from densenets.hub.hub_model import HubModel
from densenets.hub.model_card import model_card
from densenets.models.create import build_network
from densenets.models.registry import named_config

EVALUATION = {"split": "test", "images": 10_000, "top1_error": 8.021, "top5_error": 0.4}
RUN = {"recipe": "cifar10-hour", "epoch": 28, "data": {"name": "cifar10"}, "evaluation": EVALUATION}


def checkpoint_with(details: dict[str, Any], classes: tuple[str, ...] = CLASSES) -> Checkpoint:
    model = build_network(small_config(num_classes=len(classes))).eval()
    return Checkpoint(model, classes, PREPROCESSING, details)


def section(card: str, name: str) -> str:
    return card.partition(f"## {name}\n\n")[2].partition("\n## ")[0].strip()


def test_the_three_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    HubModel(trained_network().eval(), CLASSES, PREPROCESSING, DETAILS).save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (tmp_path / "mine" / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert names["logits"].shape == (1, len(CLASSES))
    assert names["trained"].classes == CLASSES


def test_the_hub_reads_its_metadata():
    card = ModelCard(model_card(checkpoint_with(RUN), "me/my-densenet"))
    assert card.data.library_name == "densenets"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.tags == ["densenets", "densenet"]
    assert card.data.model_name == "my-densenet"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.dataset_split) == ("cifar10", "test")
    assert (result.metric_type, result.metric_value) == ("accuracy", pytest.approx(0.91979))


def test_the_runs_figures_stand_in_the_card():
    many = tuple(f"class {number}" for number in range(6))
    card = model_card(checkpoint_with(RUN, many), "me/my-densenet")
    errors = section(card, "Errors")
    assert errors == "- top-1 error: 8.02%, top-5 error: 0.40%, on 10,000 test images"
    assert section(card, "Origin") == "- recipe: `cifar10-hour`\n- epoch: `28`\n- data set: `cifar10`"
    few = section(model_card(checkpoint_with(RUN), "me/x"), "Errors")
    assert few == "- top-1 error: 8.02%, on 10,000 test images"


@pytest.mark.parametrize(
    ("details", "errors"),
    [
        ({}, "The checkpoint tells none."),
        ({"validation_top1_error": 7.5}, "- top-1 error: 7.50%, on validation images, as training noted it"),
        ({"evaluation": "good", "test_top1_error": "low"}, "The checkpoint tells none."),
        ({"evaluation": {"top1_error": 101, "top5_error": 0}}, "The checkpoint tells none."),
        ({"evaluation": {**EVALUATION, "split": 3}}, "- top-1 error: 8.02%, on 10,000 images"),
    ],
)
def test_details_of_any_form_give_a_card(details: dict[str, Any], errors: str):
    card = model_card(checkpoint_with(details), "me/x")
    assert section(card, "Errors") == errors
    assert ModelCard(card).data.eval_results is None


def test_a_converted_checkpoint_tells_its_source():
    source = {"file": "densenet121.pth", "form": "torchvision", "sha256": "ab" * 32, "keys": 727}
    origin = section(model_card(checkpoint_with({"source": source}), "me/x"), "Origin")
    digest = "ab" * 32
    assert origin.splitlines() == [
        "- converted from: `densenet121.pth`",
        "- which was written by: `torchvision`",
        f"- SHA-256 of that file: `{digest}`",
    ]


def test_names_out_of_files_do_not_become_markup():
    evil = '```\n# Mine\n<script>alert(1)</script> `"\udcff\x1b[2J\n---\n'
    details = {"recipe": evil, "data": {"name": evil}, "evaluation": {**EVALUATION, "split": evil}}
    text = model_card(checkpoint_with(details, (evil, "b")), f"me/{evil}")
    assert text.encode()
    card = ModelCard(text)
    assert card.data.library_name == "densenets"
    (result,) = card.data.eval_results
    assert result.dataset_name == evil
    tokens = MarkdownIt().parse(card.text)
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["Use", "Network", "Errors", "Origin", "Preprocessing", "Classes"]
    assert not [token for token in tokens if token.type == "html_block"]
    inside = [child for token in tokens for child in token.children or ()]
    assert not [child for child in inside if child.type == "html_inline"]


def test_of_many_classes_some_are_listed():
    classes = tuple(f"class {number}" for number in range(250))
    listed = section(model_card(checkpoint_with({}, classes), "me/x"), "Classes")
    assert listed.startswith("250, in the order of the logits:")
    assert listed.count('"class ') == 100
    assert listed.endswith("and 150 more, which `trained.classes` has.")


def test_networks_for_volumes_and_of_features_have_cards():
    volumes = build_network(small_config(spatial_dims=3)).eval()
    card = model_card(Checkpoint(volumes, CLASSES, PREPROCESSING, {}), "me/x")
    assert "torch.rand(1, 3, 28, 28, 28)" in card
    assert "pipeline_tag" not in card
    assert "crop" not in card
    features = build_network(small_config(num_classes=0)).eval()
    card = model_card(Checkpoint(features, (), PREPROCESSING, {}), "me/x")
    assert f"-> {features.num_features} features" in card
    assert "## Classes" not in card


def test_other_families_have_cards():
    config = named_config("resnet110")
    with torch.device("meta"):
        model = build_network(config)
    classes = tuple(str(number) for number in range(config.num_classes))
    assert "- resnet110, a ResNet" in model_card(Checkpoint(model, classes, PREPROCESSING, {}), "me/x")
