from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from vtc.core.layout import Role, Unit
from vtc.viz import overlay, seen, viridis

LEGEND = 28


def record(unit, kept, scores=None, groups=None):
    kept = torch.tensor(kept)
    return SimpleNamespace(
        unit=unit, before=unit.length, after=len(kept), kept=kept, scores=scores, groups=groups, image=0
    )


def pixels(picture):
    return np.asarray(picture).astype(int)[:-LEGEND]


def centre(array, row, col, rows, cols):
    height, width = array.shape[:2]
    return array[int((row + 0.5) * height / rows), int((col + 0.5) * width / cols)]


@pytest.fixture
def white():
    return Image.new("RGB", (480, 360), "white")


def test_kept_tokens_stay_as_they_are_and_dropped_ones_are_dimmed(white):
    out = pixels(overlay(white, record(Unit("image", 12, grid=(1, 3, 4)), [0, 5])))
    assert out.shape == (360, 480, 3)
    for i in range(12):
        value = centre(out, i // 4, i % 4, 3, 4)
        assert (value == 255).all() if i in (0, 5) else (value < 80).all(), i


def test_kept_areas_are_outlined_inside_and_not_at_the_edge_of_the_picture(white):
    out = pixels(overlay(white, record(Unit("image", 4, grid=(1, 2, 2)), [0])))
    assert tuple(out[179, 100]) == (253, 231, 37) and tuple(out[100, 239]) == (253, 231, 37)
    assert tuple(out[0, 100]) == (255, 255, 255) and (out[180, 100] < 80).all()


def test_merged_tokens_are_dimmed_less_than_dropped_ones(white):
    groups = torch.tensor([0, 0, -1, -1])
    out = pixels(overlay(white, record(Unit("image", 4, grid=(1, 1, 4)), [0], groups=groups)))
    kept, merged, dropped = (centre(out, 0, i, 1, 4)[0] for i in range(3))
    assert kept == 255 > merged > dropped


def test_scores_are_shown_by_rank_from_violet_to_yellow():
    black = Image.new("RGB", (400, 400))
    scores = torch.tensor([0.1, 1000.0, 0.2, float("nan")])
    out = pixels(overlay(black, record(Unit("image", 4, grid=(1, 2, 2)), [1], scores=scores), mode="scores"))
    low, high, middle, none = (centre(out, i // 2, i % 2, 2, 2) for i in range(4))
    assert np.abs(low - 0.6 * viridis(np.array(0.0))).max() <= 1
    assert np.abs(high - 0.6 * viridis(np.array(1.0))).max() <= 1
    assert np.abs(middle - 0.6 * viridis(np.array(0.5))).max() <= 1
    assert (none == 0).all()


def test_tiles_with_boxes_share_a_panel_and_the_thumbnail_gets_its_own(white):
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    part = torch.arange(3).repeat_interleave(4)
    cell = torch.arange(4).repeat(3)
    unit = Unit("image", 12, part=part, cell=cell, part_grids=((2, 2),) * 3, info={"boxes": boxes})
    out = pixels(overlay(white, record(unit, [0, 7, 8])))
    assert out.shape == (360, 480 * 2 + 6, 3)
    thumbnail, tiles = out[:, :480], out[:, 486:]
    assert (centre(thumbnail, 0, 0, 2, 2) == 255).all() and (centre(thumbnail, 1, 1, 2, 2) < 80).all()
    kept = [(r, c) for r in range(2) for c in range(4) if (centre(tiles, r, c, 2, 4) == 255).all()]
    assert kept == [
        (0, 2),
        (1, 1),
    ]  # token 8 = first cell of the right tile, token 7 = last cell of the left one


def test_every_frame_of_a_video_gets_a_panel():
    frames = [Image.new("RGB", (336, 336), (0, 0, 60 * i)) for i in range(3)]
    out = pixels(overlay(frames, record(Unit("video", 12, grid=(3, 2, 2)), [0, 5, 11])))
    assert out.shape == (336, 336 * 3 + 12, 3)
    for i, (row, col) in enumerate([(0, 0), (0, 1), (1, 1)]):
        panel = out[:, i * 342 : i * 342 + 336]
        assert tuple(centre(panel, row, col, 2, 2)) == (0, 0, 60 * i)


def test_newline_rows_have_no_place_on_the_picture(white):
    role = torch.tensor([Role.PATCH, Role.PATCH, Role.NEWLINE])
    unit = Unit("image", 3, part=torch.zeros(3).long(), cell=torch.tensor([0, 1, -1]), role=role, part_grids=((1, 2),))
    out = pixels(overlay(white, record(unit, [1, 2])))
    assert (centre(out, 0, 0, 1, 2) < 80).all() and (centre(out, 0, 1, 1, 2) == 255).all()


def test_small_pictures_are_blown_up_by_a_whole_factor():
    assert overlay(Image.new("RGB", (112, 56)), record(Unit("image", 2, grid=(1, 1, 2)), [0])).size == (
        336,
        168 + LEGEND,
    )


def test_lattice_of_an_odd_size_covers_every_pixel():
    picture = Image.new("RGB", (337, 401), "white")
    out = pixels(overlay(picture, record(Unit("image", 35, grid=(1, 5, 7)), list(range(35)))))
    assert (out == 255).all()


def test_bad_modes_are_refused(white):
    unit = Unit("image", 2, grid=(1, 1, 2))
    with pytest.raises(ValueError, match="'kept', 'scores'"):
        overlay(white, record(unit, [0]), mode="heat")
    with pytest.raises(ValueError, match="no scores"):
        overlay(white, record(unit, [0]), mode="scores")


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (
            {
                "do_center_crop": True,
                "size": {"shortest_edge": 336},
                "crop_size": {"height": 336, "width": 336},
            },
            (200, 200),
        ),
        (
            {
                "do_center_crop": True,
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
            },
            (175, 175),
        ),
        ({"do_center_crop": False, "size": {"shortest_edge": 336}}, (300, 200)),
        ({"do_center_crop": False, "size": {"height": 112, "width": 112}}, (300, 200)),
    ],
)
def test_what_a_centre_crop_leaves_is_what_is_shown(settings, size):
    settings = {"do_resize": True, "do_convert_rgb": True, **settings}
    processor = CLIPImageProcessor(**settings)
    picture = Image.fromarray(np.tile(np.arange(300, dtype=np.uint8)[None, :, None] // 2, (200, 1, 3)))
    shown = seen(picture, SimpleNamespace(image_processor=processor))
    assert shown.size == size
    if settings["do_center_crop"]:
        pixels_in = processor(picture, return_tensors="np", do_normalize=False)["pixel_values"][0, 0, 100] * 255
        edges = np.asarray(shown)[100, [2, -3], 0]
        assert np.abs(pixels_in[[2, -3]] - edges).max() < 3
