"""What weights do not say: it is found in statistics, known of a program, or asked for."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from other_ports import OtherPort, with_statistics, without_names
from small_networks import small_config
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet import DenseNet
from densenets.weights.formats.pytorch_file import read_pytorch, state_dict_file
from densenets.weights.formats.state_dicts import StateDict
from densenets.weights.recognition import DenseNetWeights, Unsaid, recognized_densenet
from densenets.weights.structure import NoDenseNet

PATH = Path("theirs.pth")


def recognized(weights: dict[str, Tensor], **unsaid: Any) -> DenseNetWeights:
    return recognized_densenet(state_dict_file(StateDict((), weights), PATH), unsaid=Unsaid(**unsaid))


def assert_same_logits(found: DenseNetWeights, theirs: nn.Module) -> None:
    ours = build_network(found.config)
    ours.load_state_dict(found.weights)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-5)


# New maps


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [4, 2])
@pytest.mark.parametrize("new_first", [True, False])
def test_a_port_gives_its_logits_whatever_it_differs_in(new_first: bool, width: int, bias: bool, named: bool):
    theirs = with_statistics(OtherPort(new_first=new_first, bias=bias, width=width))
    state = theirs.state_dict()
    found = recognized(state if named else without_names(state))
    assert_same_logits(found, theirs)
    assert found.config.bottleneck_width == width
    maps = "first in its dense layers, as its running statistics show, and were permuted to stand last"
    expected = maps if new_first else "last in its dense layers, as its running statistics show"
    assert f"new maps stand {expected}" in found.notes
    assert len(found.unused) == (bias and 1 + 2 * 8 + 2)
    assert any("19 biases of convolutions went into the norms" in note for note in found.notes) == bias


def test_statistics_count_more_than_names():
    # The names are kuangliu's, who puts new maps first.
    theirs = with_statistics(OtherPort(new_first=False))
    found = recognized(theirs.state_dict())
    assert found.form == "kuangliu/pytorch-cifar"
    assert_same_logits(found, theirs)


def test_fresh_statistics_leave_it_to_what_is_known_of_the_program():
    theirs = OtherPort(new_first=True).eval()
    found = recognized(theirs.state_dict())
    assert_same_logits(found, theirs)
    assert (
        "new maps stand first, as in kuangliu/pytorch-cifar; its running statistics are fresh" in found.notes
    )


@pytest.mark.parametrize("new_first", [True, False])
def test_of_an_unknown_program_with_fresh_statistics_it_is_asked_for(new_first: bool):
    theirs = OtherPort(new_first=new_first).eval()
    state = without_names(theirs.state_dict())
    with pytest.raises(InputError, match="running statistics are fresh; give --new-maps first, or last"):
        recognized(state)
    found = recognized(state, new_maps="first" if new_first else "last")
    assert_same_logits(found, theirs)


def test_statistics_that_contradict_each_other_are_not_believed():
    theirs = OtherPort().eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in theirs.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    with pytest.raises(InputError, match="running statistics agree with neither way; give --new-maps"):
        recognized(without_names(theirs.state_dict()))


def test_statistics_that_are_no_numbers_say_nothing():
    theirs = with_statistics(OtherPort())
    theirs.state_dict()["dense2.0.bn1.running_mean"][0] = torch.nan
    with pytest.raises(InputError, match="agree with neither way"):
        recognized(without_names(theirs.state_dict()))


def test_a_user_who_is_against_the_statistics_is_told_so():
    found = recognized(with_statistics(OtherPort(new_first=True)).state_dict(), new_maps="last")
    assert (
        "new maps stand last in its dense layers, as given; its running statistics say first" in found.notes
    )


# Transitions


@pytest.mark.parametrize("named", [True, False])
def test_transitions_without_a_relu_are_no_densenets(named: bool):
    state = with_statistics(OtherPort(relu=False)).state_dict()
    with pytest.raises(NoDenseNet, match="its transitions have no ReLUs, as its running statistics show"):
        recognized(state if named else without_names(state))


# Epsilon


def test_a_whole_networks_epsilon_is_its_own(tmp_path: Path):
    torch.save(DenseNet(small_config(norm_epsilon=0.003)), tmp_path / "whole.pth")
    found = recognized_densenet(read_pytorch(tmp_path / "whole.pth"))
    assert found.config.norm_epsilon == 0.003
    assert "epsilon of the batch norms: 0.003, as the file says" in found.notes


def test_epsilons_that_differ_are_refused(tmp_path: Path):
    network = DenseNet(small_config())
    network.features.norm5.eps = 0.5
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(InputError, match=r"norms have several epsilons \(1e-05, 0\.5\)"):
        recognized_densenet(read_pytorch(tmp_path / "whole.pth"))


def test_a_state_dict_has_pytorchs_epsilon_unless_another_is_given():
    state = without_names(with_statistics(OtherPort()).state_dict())
    found = recognized(state)
    assert found.config.norm_epsilon == 1e-5
    assert any("1e-05, PyTorch's, since the file says none (--norm-epsilon)" in note for note in found.notes)
    given = recognized(state, norm_epsilon=0.01)
    assert given.config == dataclasses.replace(found.config, norm_epsilon=0.01)
    assert "epsilon of the batch norms: 0.01, as given" in given.notes


@pytest.mark.parametrize("epsilon", [-1.0, 1.0, float("nan")])
def test_an_epsilon_that_cannot_be_is_refused(epsilon: float):
    with pytest.raises(InputError, match="norm_epsilon must be from 0"):
        Unsaid(norm_epsilon=epsilon)


# Norms without a scale


def test_norms_without_scale_and_shift_have_ones_and_zeros():
    theirs = with_statistics(OtherPort())
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_parameter("weight", None)
            module.register_parameter("bias", None)
    found = recognized(theirs.state_dict())
    assert_same_logits(found, theirs)
