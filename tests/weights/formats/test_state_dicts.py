from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import small_config
from torch import nn

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.torch_files import read_torch_file
from densenets.weights.formats.state_dicts import StateDict, find_state_dict

PATH = Path("file.pt")


def weights(value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.full((2, 3, 3, 3), float(value)), "conv.bias": torch.zeros(2)}


def found(content: Any) -> StateDict:
    return find_state_dict(content, PATH)[0]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (weights(), ()),
        ({"state_dict": weights(), "epoch": 3}, ("state_dict",)),
        ({"net": weights(), "acc": 93.5}, ("net",)),
        (
            {"anything": {"deeper": weights()}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2, 2)}}}},
            ("anything", "deeper"),
        ),
        ({"state_dict": OrderedDict(weights()), "history": [torch.zeros(3, 3)]}, ("state_dict",)),
        ({"model": weights(), "scaler": {"scale": torch.tensor(2.0)}}, ("model",)),
    ],
)
def test_the_state_dict_is_found_wherever_it_lies(content: Any, place: tuple[str, ...]):
    state, notes = find_state_dict(content, PATH)
    assert state.place == place
    assert state.tensors.keys() == weights().keys()
    assert not notes


def test_what_stands_between_the_tensors_is_named():
    state = found({"epoch": 3, **weights(), "options": {"lr": 0.1}})
    assert state.tensors.keys() == weights().keys()
    assert state.beside == ("epoch", "options")


def test_of_several_the_one_by_the_usual_name_is_taken_and_it_is_said():
    content = {"state_dict_ema": weights(1), "state_dict": weights(2), "teacher": {"model": weights(3)}}
    state, notes = find_state_dict(content, PATH)
    assert state.tensors["conv.weight"].mean() == 2
    assert notes == ("weights: state_dict of the file, which also holds state_dict_ema, teacher.model",)


def test_of_several_without_a_usual_name_none_is_guessed():
    with pytest.raises(InputError, match=r"holds several state dicts \(student, teacher\); save the one"):
        find_state_dict({"student": weights(), "teacher": weights()}, PATH)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3), {0: torch.zeros(3)}, {}, None])
def test_without_a_state_dict_it_is_said(content: Any):
    with pytest.raises(InputError, match="holds no state dict"):
        find_state_dict(content, PATH)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, lambda net: {"model": net, "epoch": 1}])
def test_a_whole_networks_state_dict_is_its_own(tmp_path: Path, zipped: bool, wrap: Any):
    net = DenseNet(small_config(norm_epsilon=0.01))
    net.register_buffer("scratch", torch.zeros(2, 2), persistent=False)
    net.register_parameter("absent", None)
    whole = wrap(net)
    torch.save(whole, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    state = found(read_torch_file(tmp_path / "net.pt", objects=True))
    module = whole["model"] if isinstance(whole, dict) else whole
    assert list(state.tensors) == list(module.state_dict())
    assert all(torch.equal(state.tensors[key], value) for key, value in module.state_dict().items())
    norms = {key.removesuffix(".running_mean") for key in state.tensors if key.endswith("running_mean")}
    assert state.epsilons == dict.fromkeys(norms, 0.01)
