import subprocess
import sys

import pytest
import torch
import torchvision
from small_networks import small_config

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.weights.keys import FORMS, KeyForm, Renaming, rename_keys

# The modules of a network of 2 and 1 layers, written out by hand from the port's own source.
OURS_TO_DICE = {
    "features.conv0": "conv1",
    "features.denseblock1.denselayer1.norm1": "block1.layer.0.bn1",
    "features.denseblock1.denselayer1.conv1": "block1.layer.0.conv1",
    "features.denseblock1.denselayer1.norm2": "block1.layer.0.bn2",
    "features.denseblock1.denselayer1.conv2": "block1.layer.0.conv2",
    "features.denseblock1.denselayer2.norm1": "block1.layer.1.bn1",
    "features.denseblock1.denselayer2.conv1": "block1.layer.1.conv1",
    "features.denseblock1.denselayer2.norm2": "block1.layer.1.bn2",
    "features.denseblock1.denselayer2.conv2": "block1.layer.1.conv2",
    "features.transition1.norm": "trans1.bn1",
    "features.transition1.conv": "trans1.conv1",
    "features.denseblock2.denselayer1.norm1": "block2.layer.0.bn1",
    "features.denseblock2.denselayer1.conv1": "block2.layer.0.conv1",
    "features.denseblock2.denselayer1.norm2": "block2.layer.0.bn2",
    "features.denseblock2.denselayer1.conv2": "block2.layer.0.conv2",
    "features.norm5": "bn1",
    "classifier": "fc",
}


def keys_of(*, bottleneck: bool = True) -> list[str]:
    with torch.device("meta"):
        return list(DenseNet(small_config(block_layers=(2, 1), bottleneck=bottleneck)).state_dict())


def dice_key(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    return f"{OURS_TO_DICE[module]}.{tensor}"


def form_of(renaming: Renaming) -> str:
    assert renaming.form is not None
    return renaming.form.name


@pytest.mark.parametrize("bottleneck", [True, False])
def test_the_dice_ports_keys_become_ours_one_for_one(bottleneck: bool):
    ours = keys_of(bottleneck=bottleneck)
    renaming = rename_keys(dice_key(key) for key in ours)
    assert form_of(renaming) == "dice"
    assert renaming.keys == {dice_key(key): key for key in ours}


def test_the_first_layer_is_0_there_and_1_here():
    (dice,) = (form for form in FORMS if form.name == "dice")
    assert (
        dice.to_torchvision("block3.layer.0.bn2.running_var")
        == "features.denseblock3.denselayer1.norm2.running_var"
    )
    assert (
        dice.to_torchvision("block3.layer.15.conv1.weight")
        == "features.denseblock3.denselayer16.conv1.weight"
    )


def test_a_prefix_that_stands_many_times_goes_at_once():
    key = "module.model." * 10**6 + "conv1.weight"
    assert rename_keys([key]).keys[key] == "conv1.weight"


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_prefixes_of_wrappers_go_and_are_remembered(prefix: str):
    renaming = rename_keys(prefix + dice_key(key) for key in keys_of())
    assert form_of(renaming) == "dice"
    assert renaming.keys[f"{prefix}trans1.conv1.weight"] == "features.transition1.conv.weight"
    assert renaming.file_key("features.transition1.conv.weight") == f"{prefix}trans1.conv1.weight"


def test_torchvisions_keys_are_ours():
    with torch.device("meta"):
        keys = list(torchvision.models.densenet121().state_dict())
    renaming = rename_keys(keys)
    assert form_of(renaming) == "torchvision"
    assert renaming.keys == {key: key for key in keys}


def test_torchvisions_published_files_are_known_by_the_dot_before_the_number():
    layer = "features.denseblock4.denselayer16."
    renaming = rename_keys(
        ["features.conv0.weight", f"{layer}norm.1.weight", f"{layer}conv.2.weight", "features.norm5.bias"]
    )
    assert form_of(renaming) == "torchvision-old"
    assert list(renaming.keys.values()) == [
        "features.conv0.weight",
        f"{layer}norm1.weight",
        f"{layer}conv2.weight",
        "features.norm5.bias",
    ]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_has_a_name_for_each_of_our_keys_and_knows_it_again(form: KeyForm):
    ours = keys_of()
    theirs = [form.from_torchvision(key) for key in ours]
    assert len(set(theirs)) == len(ours)
    renaming = rename_keys(theirs)
    assert renaming.form == form
    assert list(renaming.keys.values()) == ours


def test_a_key_that_is_lost_has_the_name_that_the_file_should_give_it():
    renaming = rename_keys(dice_key(key) for key in keys_of() if "transition1.conv" not in key)
    assert renaming.file_key("features.transition1.conv.weight") == "trans1.conv1.weight"


def test_an_unknown_key_keeps_its_name():
    keys = [
        *(dice_key(key) for key in keys_of()),
        "extra.weight",
        "block1.layer.0.extra.bias",
        "trans1.bn2.bias",
    ]
    assert rename_keys(keys).keys.items() >= {(key, key) for key in keys[-3:]}


@pytest.mark.parametrize(
    "key", ["n_averaged", "total_ops", "features.conv0.total_ops", "module.features.norm5.total_params"]
)
def test_what_tools_leave_behind_goes_nowhere(key: str):
    assert rename_keys([*keys_of(), key]).keys[key] is None


def test_a_counter_of_steps_is_a_key_like_any_other():
    assert (
        rename_keys(keys_of()).keys["features.norm5.num_batches_tracked"]
        == "features.norm5.num_batches_tracked"
    )


def test_two_keys_for_one_weight_are_refused():
    with pytest.raises(
        InputError, match=r"fc\.bias and module\.fc\.bias are the same weight, classifier\.bias"
    ):
        rename_keys([*(dice_key(key) for key in keys_of()), "module.fc.bias"])


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "fc.weight"],
        # A Wide ResNet of the same authors has blocks by the same names, and no transitions.
        [
            "conv1.weight",
            "block1.layer.0.bn1.weight",
            "block1.layer.0.convShortcut.weight",
            "bn1.bias",
            "fc.bias",
        ],
        ["features.conv1.weight", "features.conv2.weight", "classifier.weight"],
    ],
    ids=["nothing", "ResNet", "Wide ResNet", "convolutions"],
)
def test_other_networks_have_no_form_and_keep_their_keys(keys: list[str]):
    renaming = rename_keys(keys)
    assert renaming.form is None
    assert renaming.keys == {key: key for key in keys}
    assert renaming.file_key("features.conv0.weight") == "features.conv0.weight"


def test_a_form_is_a_table_of_names():
    form = KeyForm(
        name="made up",
        marks=("stages.{block}.{layer}.n{unit}",),
        modules=(
            ("stages.{block}.{layer}.n{unit}", "features.denseblock{block}.denselayer{layer}.norm{unit}"),
            ("head", "classifier"),
        ),
        from_zero=frozenset({"block", "unit"}),
    )
    pairs = {
        "stages.0.1.n1.weight": "features.denseblock1.denselayer1.norm2.weight",
        "stages.3.16.n0.running_mean": "features.denseblock4.denselayer16.norm1.running_mean",
        "head.bias": "classifier.bias",
        "head.more.bias": "head.more.bias",
        "stages.0.1.n1": "stages.0.1.n1",
    }
    assert form.recognizes(pairs)
    assert not form.recognizes(["head.bias", "xstages.0.1.n1.weight", "stages.0.x.n1.weight"])
    assert {key: form.to_torchvision(key) for key in pairs} == pairs
    assert all(form.from_torchvision(ours) == key for key, ours in pairs.items())


def test_names_need_no_pytorch():
    code = "import sys, densenets.weights.keys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
