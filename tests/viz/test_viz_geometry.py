"""A bright spot in a picture lights up one patch of what the processor makes: the overlay must show that one there."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaNextImageProcessor, Qwen2VLImageProcessor

from vtc.core.layout import Unit
from vtc.viz import overlay, seen, upright

from support.spots import record, spot_is_kept, spotted

SIZES = [(300, 200), (211, 397), (640, 95), (90, 333)]


def qwen(image):
    made = Qwen2VLImageProcessor(size={"shortest_edge": 4 * 28 * 28, "longest_edge": 384 * 28 * 28})(
        images=[image], return_tensors="pt"
    )
    t, h, w = made["image_grid_thw"][0].tolist()
    light = made["pixel_values"].mean(-1).view(-1, 4).amax(1)
    return Unit("image", h * w // 4, grid=(t, h // 2, w // 2)), int(light.argmax())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", [(0.53, 0.47), (0.12, 0.81)])
def test_smart_resized_qwen_images_of_odd_shapes(size, where):
    image = spotted(size, where)
    unit, token = qwen(image)
    assert spot_is_kept(image, unit, token)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_with_an_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    spotted((300, 180), (0.2, 0.7)).save(buffer, "PNG", exif=exif)
    raw = Image.open(buffer)
    turned = upright(raw)
    assert turned.size == ((300, 180) if orientation in (1, 3) else (180, 300))
    assert turned.getexif().get(0x0112) in (None, 1)
    unit, token = qwen(turned)
    assert spot_is_kept(turned, unit, token)
    # and the raw one is shown as the processor takes it: not turned
    unit, token = qwen(raw.convert("RGB"))
    assert overlay(raw, record(unit, token), legend=False).size == (600, 360)
    assert spot_is_kept(raw.convert("RGB"), unit, token)


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA", "CMYK"])
def test_palette_and_other_modes(mode):
    image = spotted((250, 170), (0.3, 0.4), mode)
    unit, token = qwen(image.convert("RGB"))
    assert spot_is_kept(image, unit, token)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (
            {"do_center_crop": True, "size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
            (200, 200),
        ),
        (
            {"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}},
            (175, 175),
        ),
        ({"do_center_crop": False, "size": {"shortest_edge": 336}}, (300, 200)),
        ({"do_center_crop": False, "size": {"height": 112, "width": 112}}, (300, 200)),
    ],
)
def test_what_a_centre_crop_leaves_is_what_is_shown(settings, size):
    processor = CLIPImageProcessor(**{"do_resize": True, "do_convert_rgb": True, **settings})
    picture = Image.fromarray(np.tile(np.arange(300, dtype=np.uint8)[None, :, None] // 2, (200, 1, 3)))
    shown = seen(picture, SimpleNamespace(image_processor=processor))
    assert shown.size == size
    if settings["do_center_crop"]:
        pixels_in = processor(picture, return_tensors="np", do_normalize=False)["pixel_values"][0, 0, 100] * 255
        edges = np.asarray(shown)[100, [2, -3], 0]
        assert np.abs(pixels_in[[2, -3]] - edges).max() < 3


@pytest.mark.parametrize("size", [(300, 200), (211, 397)])
def test_patches_of_a_centre_crop(size):
    processor = CLIPImageProcessor(size={"shortest_edge": 112}, crop_size={"height": 112, "width": 112})
    image = spotted(size, (0.4, 0.55))
    made = processor(image, return_tensors="pt")["pixel_values"]
    light = torch.nn.functional.unfold(made, 14, stride=14)[0].mean(0)
    assert spot_is_kept(seen(image, processor), Unit("image", 64, grid=(1, 8, 8)), int(light.argmax()))


@pytest.mark.parametrize("size", [(300, 180), (211, 390), (300, 300)])
@pytest.mark.parametrize("where", [(0.3, 0.4), (0.7, 0.66)])
def test_anyres_tiles_reach_into_the_padding(size, where):
    side, patch = 56, 14
    points = [[56, 112], [112, 56], [112, 112], [56, 168], [168, 56]]
    processor = LlavaNextImageProcessor(
        image_grid_pinpoints=points, size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    image = spotted(size, where)
    assert seen(image, processor).size == size
    tiles = processor(image, return_tensors="pt")["pixel_values"][0]
    grid = _grid(size, points, side)
    assert len(tiles) == 1 + grid[0] * grid[1]
    cells = (side // patch) ** 2
    light = torch.nn.functional.unfold(tiles, patch, stride=patch).mean(1)  # [tiles, cells]
    part, cell = torch.arange(len(tiles)).repeat_interleave(cells), torch.arange(cells).repeat(len(tiles))
    unit = Unit(
        "image",
        len(part),
        part=part,
        cell=cell,
        part_grids=((side // patch,) * 2,) * len(tiles),
        info={"boxes": [(0.0, 0.0, 1.0, 1.0), *_boxes(size, grid, side)]},
    )
    assert spot_is_kept(image, unit, int(light[0].argmax()), panel=0)
    assert spot_is_kept(image, unit, cells + int(light[1:].reshape(-1).argmax()), panel=1)


def _grid(size, points, side):
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution((size[1], size[0]), points)
    return height // side, width // side


def _boxes(size, grid, side):
    """The picture is scaled to fit into the tiles and padded on both sides."""
    width, height = size
    scale = min(grid[0] * side / height, grid[1] * side / width)
    left, top = (grid[1] * side - width * scale) / 2, (grid[0] * side - height * scale) / 2
    for i in range(grid[0]):
        for j in range(grid[1]):
            x, y = (j * side - left) / (width * scale), (i * side - top) / (height * scale)
            yield x, y, x + side / (width * scale), y + side / (height * scale)


def test_pooled_video_has_a_coarser_lattice_on_every_frame():
    frames = [spotted((300, 180), (0.1 + 0.3 * i, 0.5), "RGB") for i in range(3)]
    unit = Unit("video", 3 * 6 * 6, grid=(3, 6, 6))
    for i, frame in enumerate(frames):
        token = i * 36 + 3 * 6 + int((0.1 + 0.3 * i) * 6)
        shown = np.asarray(overlay(frames, record(unit, token), legend=False)).astype(int)
        panels = [shown[:360, k * 606 : k * 606 + 600] for k in range(3)]
        kept = [bool((panel == (253, 231, 37)).all(-1).any()) for panel in panels]
        assert kept == [k == i for k in range(3)] and frame.size == (300, 180)
        assert (panels[i][182, int((0.1 + 0.3 * i) * 600)] == 255).all()
