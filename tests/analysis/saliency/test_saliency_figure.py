from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import small_config

from densenets.analysis.saliency.compute import ImageSaliency, SaliencyMap, saliency
from densenets.analysis.saliency.figure import saliency_figure, write_saliency
from densenets.checkpoint import Checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.models.densenet import DenseNet


def saliency_map(block: int, side: int, largest: float = 1.0) -> SaliencyMap:
    """Evidence that grows from the first pixel to the last."""
    shares = np.linspace(0, 1, side * side).reshape(side, side) * (largest > 0)
    values = tuple(tuple(row) for row in shares.tolist())
    return SaliencyMap(block=block, layer=f"features.layer{block}", values=values, largest=largest)


def explained(**changes: Any) -> ImageSaliency:
    """A grey picture of 28x28 that is a cat to a network of three blocks, with some fields changed."""
    fields: dict[str, Any] = {
        "path": Path("pictures/first.png"),
        "explained": "cat",
        "probability": 0.971,
        "predicted": "cat",
        "predicted_probability": 0.971,
        "maps": (saliency_map(1, 28), saliency_map(2, 14), saliency_map(3, 7)),
        "pixels": (torch.arange(28 * 28) % 256).to(torch.uint8).reshape(1, 28, 28),
    }
    return ImageSaliency(**{**fields, **changes})


def texts(svg: Path) -> list[str]:
    """Every piece of text in a picture."""
    root = ElementTree.parse(svg).getroot()
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def titles(images: list[ImageSaliency]) -> list[str]:
    """Over the panels, row by row, without that of the colour bar."""
    return [axes.get_title() for axes in saliency_figure(images).axes[:-1]]


@pytest.mark.parametrize("rows", [1, 2, 6])
@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_a_picture_is_a_row_of_its_crop_and_a_panel_a_block(rows: int, blocks: int) -> None:
    maps = tuple(saliency_map(block, 28 >> block) for block in range(1, blocks + 1))
    figure = saliency_figure([explained(maps=maps)] * rows)
    assert len(figure.axes) == rows * (1 + blocks) + 1  # the last is the colour bar
    for number, axes in enumerate(figure.axes[:-1]):
        of_crop = number % (1 + blocks) == 0
        assert len(axes.images) == (1 if of_crop else 2)


def test_titles_say_class_probability_block_and_sides() -> None:
    assert titles([explained()]) == [
        "first.png\ncat, 97.1%",
        "block 1, 28x28",
        "block 2, 14x14",
        "block 3, 7x7",
    ]


def test_the_likeliest_class_is_named_where_another_is_explained() -> None:
    image = explained(explained="dog", probability=0.002)
    assert titles([image])[0] == "first.png\nexplained: dog, 0.2%\nlikeliest: cat, 97.1%"


def test_a_map_without_evidence_says_so() -> None:
    image = explained(maps=(saliency_map(1, 8, largest=0.0), saliency_map(2, 4)))
    assert titles([image])[1:] == ["block 1, 8x8\nno evidence for the class", "block 2, 4x4"]


def test_long_names_keep_their_ends_and_their_panel(tmp_path: Path) -> None:
    name = "Dandie Dinmont, Dandie Dinmont terrier, a dog of the hills"
    image = explained(path=Path(f"{name}.jpeg"), explained=name)
    file, first, second = titles([image])[0].split("\n")
    assert max(len(line) for line in (file, first, second)) <= 38
    assert file.startswith("Dandie")
    assert file.endswith(".jpeg")
    assert first.startswith("explained: Dandie")
    assert first.endswith("hills, 97.1%")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_maps_cover_the_crop(channels: int) -> None:
    pixels = torch.randint(0, 256, (channels, 30, 30), dtype=torch.uint8, generator=torch.Generator())
    crop, *panels, _ = saliency_figure([explained(pixels=pixels)]).axes
    shown = np.asarray(crop.images[0].get_array())
    np.testing.assert_array_equal(shown, pixels.permute(1, 2, 0).squeeze(-1).numpy())
    for axes, expected in zip(panels, explained().maps, strict=True):
        picture, overlay = axes.images
        assert tuple(overlay.get_extent()) == tuple(picture.get_extent()) == (-0.5, 29.5, 29.5, -0.5)
        np.testing.assert_array_equal(np.asarray(overlay.get_array()), expected.values)
        assert overlay.get_clim() == (0, 1)  # one colour bar for all


def test_the_figure_is_a_png_and_an_svg(tmp_path: Path) -> None:
    write_saliency([explained(), explained()], tmp_path / "out" / "saliency")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["saliency.png", "saliency.svg"]
    with Image.open(tmp_path / "out" / "saliency.png") as image:
        image.load()
        assert image.format == "PNG"
        assert 400 <= min(image.size) <= max(image.size) <= 2500
    shown = texts(tmp_path / "out" / "saliency.svg")
    assert shown.count("block 3, 7x7") == 2
    assert "evidence for the class, share of the map's largest" in shown
    root = ElementTree.parse(tmp_path / "out" / "saliency.svg").getroot()
    pictures = [node for node in root.iter() if node.tag.endswith("}image")]
    assert len(pictures) == 2 * (1 + 3) + 1  # one a panel, and the colour bar's


@pytest.mark.slow
def test_more_than_six_pictures_are_several_figures(tmp_path: Path) -> None:
    images = [explained(path=Path(f"{number}.png")) for number in range(7)]
    write_saliency(images, tmp_path / "rate-0.1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"rate-0.1-{number}.{ending}" for number in (1, 2) for ending in ("png", "svg")
    ]
    assert "5.png" in texts(tmp_path / "rate-0.1-1.svg")
    assert "6.png" in texts(tmp_path / "rate-0.1-2.svg")
    with Image.open(tmp_path / "rate-0.1-1.png") as tall, Image.open(tmp_path / "rate-0.1-2.png") as flat:
        assert tall.width == flat.width
        assert 2 * flat.height < tall.height < 3000


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for stem in ("first", "second"):
        write_saliency([explained()], tmp_path / stem)
    for ending in (".svg", ".png"):
        assert (tmp_path / f"first{ending}").read_bytes() == (tmp_path / f"second{ending}").read_bytes()


@pytest.mark.parametrize("name", ["under_$5_$10", "a & b <c>", "a\\b^2"])
def test_names_are_no_markup(tmp_path: Path, name: str) -> None:
    write_saliency([explained(path=Path(name), explained=name)], tmp_path / "saliency")
    shown = texts(tmp_path / "saliency.svg")
    assert name in shown
    assert f"explained: {name}, 97.1%" in shown


def test_real_pictures_are_drawn(picture_folder: Path, tmp_path: Path) -> None:
    preprocessing = Preprocessing(channels=1, image_size=16, resize=16, mean=(0.5,), std=(0.3,))
    model = DenseNet(small_config(in_channels=1), generator=torch.Generator().manual_seed(0)).eval()
    read = Checkpoint(model, ("zero", "one", "two", "three", "four"), preprocessing, {})
    paths = sorted((picture_folder / "val" / "two").iterdir())
    images = list(saliency(read, paths, device=torch.device("cpu")))
    write_saliency(images, tmp_path / "saliency")
    assert (tmp_path / "saliency.png").exists()
    shown = texts(tmp_path / "saliency.svg")
    assert shown.count("block 1, 16x16") == shown.count("block 2, 8x8") == len(paths) == 3
    assert {path.name for path in paths} <= set(shown)
