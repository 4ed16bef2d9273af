"""FractalNet: columns, joins, and what drop-path leaves out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.models.baselines.fractalnet import FractalBlock, FractalConvolution, FractalNet, run_one_column
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.weights.pretrained import create_model


def small(**changes: Any) -> FractalNet:
    fields: dict[str, Any] = {"columns": 3, "block_channels": (4, 6), "block_dropout": (0.0, 0.0), **changes}
    model = FractalNet(FractalNetConfig(**fields), torch.Generator().manual_seed(0)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.3)
    return model


def image(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def convolutions(model: FractalNet) -> list[list[list[FractalConvolution]]]:
    """By block, column and place."""
    return [[list(column) for column in block.columns] for block in model.blocks]  # type: ignore[union-attr, misc]


def pool(x: Tensor) -> Tensor:
    return nn.functional.max_pool2d(x, 2)


def test_columns_have_one_two_and_four_convolutions() -> None:
    counts = [[len(column) for column in block] for block in convolutions(small())]
    assert counts == [[1, 2, 4]] * 2
    assert small().config.depth == 9


def test_a_block_is_the_papers_expansion_rule() -> None:
    model = small().eval()
    block = model.blocks[0]
    (a,), (b1, b2), (c1, c2, c3, c4) = convolutions(model)[0]
    x = image(2, 3, 8, 8)
    # f_2 = join(conv, conv conv), twice in a row; f_3 joins a third path; nested joins are one mean.
    half = (b1(x) + c2(c1(x))) / 2
    expected = (pool(a(x)) + pool(b2(half)) + pool(c4(c3(half)))) / 3
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_column_alone_is_a_plain_network(column: int) -> None:
    model = small().eval()
    model.column = column
    x = image(2, 3, 8, 8)
    expected = x
    for block in convolutions(model):
        for convolution in block[column]:
            expected = convolution(expected)
        expected = pool(expected)
    torch.testing.assert_close(model.forward_features(x), expected)
    model.column = None
    assert not torch.allclose(model.forward_features(x), expected)


def test_other_networks_have_no_columns() -> None:
    with pytest.raises(InputError, match="a ResNet has no columns; leave --column out"):
        run_one_column(create_model("resnet8"), 0)
    model = small()
    run_one_column(model, 1)
    assert model.column == 1


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"column must be in 0 \.\.\. 2, got 3"):
        small().column = 3


def ran(model: FractalNet) -> Counter[tuple[int, int, int]]:
    """Counts how often each convolution (block, column, place) runs, from now on."""
    counts: Counter[tuple[int, int, int]] = Counter()
    for b, block in enumerate(convolutions(model)):
        for c, column in enumerate(block):
            for place, convolution in enumerate(column):
                convolution.register_forward_hook(
                    lambda *_, key=(b, c, place): counts.update([key])  # type: ignore[misc]
                )
    return counts


def test_global_drop_path_trains_one_column_at_a_time() -> None:
    model = small(global_drop_path=1.0)
    model.paths.seed(0)
    counts = ran(model)
    columns: Counter[int] = Counter()
    with torch.no_grad():
        for _ in range(300):
            counts.clear()
            model(image(2, 3, 4, 4))
            (column,) = {c for _, c, _ in counts}
            assert sum(counts.values()) == 2 * 2**column
            columns[column] += 1
    for column in range(3):
        assert abs(columns[column] / 300 - 1 / 3) < 4 * (2 / 9 / 300) ** 0.5


def test_global_drop_path_takes_its_share_of_the_steps() -> None:
    model = small(global_drop_path=0.5)
    model.paths.seed(0)
    counts = ran(model)
    alone = 0
    with torch.no_grad():
        for _ in range(300):
            counts.clear()
            model(image(2, 3, 4, 4))
            alone += len({c for _, c, _ in counts}) == 1
    assert abs(alone / 300 - 0.5) < 4 * (0.25 / 300) ** 0.5


def noted(model: FractalNet, *, draws: float) -> set[str]:
    """The statistics that a step changes, as "block.column" of the joined ones and "block.column alone"."""
    before = {key: value.clone() for key, value in model.named_buffers()}
    model.paths.draw = lambda: draws  # type: ignore[method-assign]
    with torch.no_grad():
        model(image(4, 3, 8, 8))
    changed = {key for key, value in model.named_buffers() if not torch.equal(value, before[key])}
    assert changed
    return {
        f"{key.split('.')[1]}.{key.split('.')[3]}{' alone' if '.alone.' in key else ''}" for key in changed
    }


def test_a_column_alone_notes_statistics_of_its_own() -> None:
    model = small(global_drop_path=0.5)
    alone = noted(model, draws=0.4)  # below the share; 0.4 of three columns is the second
    assert alone == {"0.1 alone", "1.1 alone"}
    joined = noted(model, draws=0.6)
    assert joined == {f"{block}.{column}" for block in (0, 1) for column in (0, 1, 2)}
    # Alone in testing it reads what it noted alone; the others do not.
    model.eval()
    model.column = 1
    before = model(image(2, 3, 8, 8))
    for block in convolutions(model):
        for convolution in block[1]:
            convolution.norm.reset_running_stats()
    torch.testing.assert_close(model(image(2, 3, 8, 8)), before)


def test_initialising_forgets_both_sets_of_statistics() -> None:
    model = small(global_drop_path=0.5)
    for draws in (0.4, 0.6):
        noted(model, draws=draws)
    model.initialize(torch.Generator().manual_seed(0))
    for key, value in model.named_buffers():
        expected = 1 if key.endswith("var") else 0
        assert torch.equal(value, torch.full_like(value, expected)), key


def test_local_drop_path_drops_each_input_as_often_as_it_should() -> None:
    model = small(local_drop_path=0.15)
    model.paths.seed(0)
    block = model.blocks[0]
    assert isinstance(block, FractalBlock)
    kept: Counter[int] = Counter()
    steps = 4000
    for _ in range(steps):
        survivors = block._drop_paths([0, 1, 2])
        assert survivors
        kept.update(survivors)
    # One that would have been the third to go stays in a third of the cases in which all would.
    expected = 0.85 + 0.15**3 / 3
    for column in range(3):
        assert abs(kept[column] / steps - expected) < 4 * (0.15 * 0.85 / steps) ** 0.5


def test_a_join_never_loses_all_of_its_inputs() -> None:
    model = small(local_drop_path=0.99)
    model.paths.seed(0)
    with torch.no_grad():
        for _ in range(50):
            assert torch.isfinite(model(image(2, 3, 4, 4))).all()


def test_a_join_of_what_is_left_is_the_mean_of_what_is_left() -> None:
    model = small(local_drop_path=0.5, columns=2, block_channels=(4,), block_dropout=(0.0,))
    block = model.blocks[0]
    assert isinstance(block, FractalBlock)
    x = image(2, 3, 4, 4)
    (a,), (b1, b2) = convolutions(model)[0]
    draws = iter([0.9, 0.1])  # keeps the first input, drops the second
    model.paths.draw = lambda: next(draws)  # type: ignore[method-assign]
    torch.testing.assert_close(block(x), pool(a(x)))
    draws = iter([0.9, 0.9])
    torch.testing.assert_close(block(x), (pool(a(x)) + pool(b2(b1(x)))) / 2)


def test_nothing_is_dropped_at_test_time() -> None:
    x = image(2, 3, 4, 4)
    dropping, keeping = (
        small(local_drop_path=p, global_drop_path=p, block_dropout=(p, p)).eval() for p in (0.5, 0.0)
    )
    # Only what is dropped in training has statistics of single columns.
    missing = dropping.load_state_dict(keeping.state_dict(), strict=False).missing_keys
    assert all(".alone." in key for key in missing)
    torch.testing.assert_close(dropping(x), keeping(x))


def test_the_papers_network_drops_by_block_and_by_path() -> None:
    with torch.device("meta"):
        model = create_model("fractalnet-20-drop-path")
    assert isinstance(model, FractalNet)
    assert (model.config.local_drop_path, model.config.global_drop_path) == (0.15, 0.5)
    dropouts = [block[0][0].dropout.p for block in convolutions(model)]
    assert dropouts == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert model.config.skips_layers
    with torch.device("meta"):
        assert not create_model("fractalnet-20").config.skips_layers


def test_initial_weights_are_caffes_xavier() -> None:
    weight = create_model("fractalnet-5-16").get_submodule("blocks.3.columns.0.0.conv").weight
    assert isinstance(weight, Tensor)
    bound = (3 / (9 * 64)) ** 0.5
    assert float(weight.detach().abs().max()) <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": 0}, "columns must be .*, got 0"),
        ({"columns": 10**12}, "columns must be at most 12, got 1000000000000"),
        ({"columns": 12, "block_channels": (1,) * 16}, "depth must be at most 10000, got 32769"),
        ({"block_channels": ()}, r"block_channels must be .*, got \(\)"),
        ({"block_channels": (4, 0)}, r"block_channels must be at least 1 in every block, got \(4, 0\)"),
        ({"block_dropout": (0.1,)}, r"block_dropout must be 2 probabilities, one a block, got \(0.1,\)"),
        ({"block_dropout": (0.1, 1)}, "block_dropout must be .*, got 1"),
        ({"local_drop_path": 1.0}, "local_drop_path must be .*, got 1.0"),
        ({"global_drop_path": 1.5}, r"global_drop_path must be a share in \[0, 1\].*, got 1.5"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FractalNetConfig(**{"columns": 2, "block_channels": (4, 8), "block_dropout": (0.0, 0.0), **changes})


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(InputError, match="at least 4x4 pixels"):
        small()(image(2, 3, 3, 4))
