"""Cost's options: which steps are compared, and the ResNet of the same size."""

from __future__ import annotations

import dataclasses

import pytest

from densenets.analysis.cost.cost_config import CostConfig, matched_resnet
from densenets.errors import InputError
from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config


def config(*models: str) -> CostConfig:
    return CostConfig(models=models, batch=4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # A pre-activation ResNet of the paper's width has about 94,000 parameters a unit of its stages.
        ("densenet-bc-100-12", "preact-resnet74-16"),
        ("densenet-bc-250-24", "preact-resnet"),
        ("densenet-40-12", "preact-resnet"),
        ("densenet121", "resnet18"),
    ],
)
def test_the_matched_resnet_has_about_the_same_parameters(name: str, expected: str) -> None:
    matched = matched_resnet(name)
    assert matched.startswith(expected)
    ours, theirs = (layer_table(n, named_config(n), (32, 32)).total("parameters") for n in (name, matched))
    # ImageNet's networks are what they are: the smallest has 11.7 million.
    assert theirs == pytest.approx(ours, rel=0.5 if name == "densenet121" else 0.04)


def test_dense_networks_run_in_every_execution_and_others_in_one() -> None:
    steps = config("densenet-bc-22-12", "resnet20").steps
    assert [(name, step.execution) for name, step in steps] == [
        ("densenet-bc-22-12", "reference"),
        ("densenet-bc-22-12", "fused"),
        ("resnet20", "reference"),
    ]
    grey = dataclasses.replace(config("densenet121", "resnet20"), input="1x32x32")
    images = {(step.network.in_channels, step.network.num_classes, step.sides) for _, step in grey.steps}
    assert images == {(1, 1000, (32, 32))}
    assert config("densenet-bc-22-12").compared == ("densenet-bc-22-12", matched_resnet("densenet-bc-22-12"))


def test_what_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="models must be named once each, got resnet20 resnet20"):
        config("resnet20", "resnet20")
    with pytest.raises(InputError, match="unknown model 'resnet-banana'"):
        config("resnet-banana")
    with pytest.raises(InputError, match="resnet20 is a ResNet; name a second network"):
        matched_resnet("resnet20")
    with pytest.raises(InputError, match="too small"):
        CostConfig(models=("densenet-bc-22-12", "densenet121"), executions=("fused",), input="3x4x4")
