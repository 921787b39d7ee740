from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vtc.core.layout import Role, Unit
from vtc.viz import OKABE_ITO, compare, contact_sheet, describe, modes, overlay, plain, token_at, viridis
from vtc.viz.palette import spread_colors


def record(unit, kept, scores=None, groups=None):
    kept = torch.tensor(kept)
    scores = None if scores is None else torch.as_tensor(scores)
    groups = None if groups is None else torch.as_tensor(groups)
    return SimpleNamespace(
        unit=unit, before=unit.length, after=len(kept), kept=kept, scores=scores, groups=groups, image=0
    )


def pixels(*args, **kwargs):
    return np.asarray(overlay(*args, legend=False, **kwargs)).astype(int)


def centre(array, row, col, rows, cols):
    height, width = array.shape[:2]
    return array[int((row + 0.5) * height / rows), int((col + 0.5) * width / cols)]


@pytest.fixture
def white():
    return Image.new("RGB", (480, 360), "white")


def test_kept_tokens_stay_as_they_are_and_dropped_ones_are_dimmed(white):
    out = pixels(white, record(Unit("image", 12, grid=(1, 3, 4)), [0, 5]))
    assert out.shape == (360, 480, 3)
    for i in range(12):
        value = centre(out, i // 4, i % 4, 3, 4)
        assert (value == 255).all() if i in (0, 5) else (value < 80).all(), i


def test_kept_areas_are_outlined_inside_and_not_at_the_edge_of_the_picture(white):
    out = pixels(white, record(Unit("image", 4, grid=(1, 2, 2)), [0]))
    assert tuple(out[179, 100]) == (253, 231, 37) and tuple(out[100, 239]) == (253, 231, 37)
    assert tuple(out[0, 100]) == (255, 255, 255) and (out[180, 100] < 80).all()


def test_merged_tokens_are_dimmed_less_than_dropped_ones(white):
    out = pixels(white, record(Unit("image", 4, grid=(1, 1, 4)), [0], groups=[0, 0, -1, -1]))
    kept, merged, dropped = (centre(out, 0, i, 1, 4)[0] for i in range(3))
    assert kept == 255 > merged > dropped


def test_scores_are_shown_by_rank_from_violet_to_yellow():
    black = Image.new("RGB", (400, 400))
    scores = [0.1, 1000.0, 0.2, float("nan")]
    out = pixels(black, record(Unit("image", 4, grid=(1, 2, 2)), [1], scores=scores), mode="scores")
    low, high, middle, none = (centre(out, i // 2, i % 2, 2, 2) for i in range(4))
    assert np.abs(low - 0.6 * viridis(np.array(0.0))).max() <= 1
    assert np.abs(high - 0.6 * viridis(np.array(1.0))).max() <= 1
    assert np.abs(middle - 0.6 * viridis(np.array(0.5))).max() <= 1
    assert (none == 0).all()


def test_groups_have_colours_of_their_own_and_their_survivor_a_dot():
    black = Image.new("RGB", (400, 400))
    case = record(Unit("image", 16, grid=(1, 4, 4)), [0, 2, 15], groups=[0, 0, 1, 1] + [-1] * 11 + [2])
    out = pixels(black, case, mode="groups")
    quarters = [tuple(out[25, x]) for x in (25, 125, 225, 325)]
    half = [tuple(c // 2 for c in colour) for colour in OKABE_ITO[:2]]
    assert quarters == [half[0], half[0], half[1], half[1]]
    assert (centre(out, 0, 0, 4, 4) == 255).all() and (centre(out, 0, 2, 4, 4) == 255).all()
    assert (centre(out, 0, 1, 4, 4) != 255).any()
    assert (centre(out, 3, 3, 4, 4) == 0).all()  # a group of one is no group
    assert (out[50, 199] == 255).all() and (out[50, 200] == 255).all()  # line between the groups


def test_neighbouring_groups_differ_in_colour():
    rng = np.random.default_rng(0)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 30, (60, 2))]
    few = [(a, b) for a, b in pairs if sum(a in p or b in p for p in pairs) < 7]
    colours = spread_colors(np.arange(30), few)
    assert set(colours.values()) <= set(range(7)) and len(few) > 5
    assert all(colours[a] != colours[b] for a, b in few if a != b)


def test_the_order_of_selection_is_coloured_and_numbered():
    black = Image.new("RGB", (400, 400))
    case = record(Unit("image", 4, grid=(1, 2, 2)), [0, 1, 3], scores=[0.2, 0.9, 1.5, 0.5])
    out = pixels(black, case, mode="order")
    first, second, third = out[5, 395], out[395, 395], out[5, 5]
    for colour, value in ((first, 1.0), (second, 0.5), (third, 0.0)):
        assert np.abs(colour - 0.55 * viridis(np.array(value))).max() <= 1
    assert (out[395, 5] == 0).all()
    for row, col in ((0, 1), (1, 1), (0, 0)):  # white digits
        cell = out[row * 200 : row * 200 + 200, col * 200 : col * 200 + 200]
        assert (cell == 255).all(-1).sum() > 100
    assert not (out[200:, :200] == 255).any()


def test_tiles_with_boxes_share_a_panel_and_the_thumbnail_gets_its_own(white):
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    part = torch.arange(3).repeat_interleave(4)
    cell = torch.arange(4).repeat(3)
    unit = Unit("image", 12, part=part, cell=cell, part_grids=((2, 2),) * 3, info={"boxes": boxes})
    out = pixels(white, record(unit, [0, 7, 8]))
    assert out.shape == (360, 480 * 2 + 6, 3)
    thumbnail, tiles = out[:, :480], out[:, 486:]
    assert (centre(thumbnail, 0, 0, 2, 2) == 255).all() and (centre(thumbnail, 1, 1, 2, 2) < 80).all()
    kept = [(r, c) for r in range(2) for c in range(4) if (centre(tiles, r, c, 2, 4) == 255).all()]
    # token 8 = first cell of the right tile, token 7 = last cell of the left one
    assert kept == [(0, 2), (1, 1)]


def test_every_frame_of_a_video_gets_a_panel():
    frames = [Image.new("RGB", (336, 336), (0, 0, 60 * i)) for i in range(3)]
    out = pixels(frames, record(Unit("video", 12, grid=(3, 2, 2)), [0, 5, 11]))
    assert out.shape == (336, 336 * 3 + 12, 3)
    for i, (row, col) in enumerate([(0, 0), (0, 1), (1, 1)]):
        panel = out[:, i * 342 : i * 342 + 336]
        assert tuple(centre(panel, row, col, 2, 2)) == (0, 0, 60 * i)


def test_newline_rows_have_no_place_on_the_picture(white):
    role = torch.tensor([Role.PATCH, Role.PATCH, Role.NEWLINE])
    unit = Unit("image", 3, part=torch.zeros(3).long(), cell=torch.tensor([0, 1, -1]), role=role, part_grids=((1, 2),))
    out = pixels(white, record(unit, [1, 2]))
    assert (centre(out, 0, 0, 1, 2) < 80).all() and (centre(out, 0, 1, 1, 2) == 255).all()
    newline = describe(record(unit, [1, 2]), 2)
    assert newline["kept"] and newline["row"] is None


def test_small_pictures_are_blown_up_by_a_whole_factor():
    small = Image.new("RGB", (112, 56))
    assert plain(small, record(Unit("image", 2, grid=(1, 1, 2)), [0])).size == (336, 168)


def test_lattice_of_an_odd_size_covers_every_pixel():
    out = pixels(Image.new("RGB", (337, 401), "white"), record(Unit("image", 35, grid=(1, 5, 7)), list(range(35))))
    assert (out == 255).all()


@pytest.mark.parametrize("width", [400, 3840])
def test_legend_and_lines_grow_with_the_picture(width):
    unit = Unit("image", 4, grid=(1, 2, 2))
    picture = Image.new("RGB", (width, width // 2), "white")
    out = np.asarray(overlay(picture, record(unit, [0]), side=None)).astype(int)
    legend = out[width // 2 :]
    share = len(legend) / width
    assert 0.015 < share < 0.2
    lines = (out[: width // 2] == (253, 231, 37)).all(-1)[width // 8]
    assert lines.sum() == (1 if width == 400 else 8)
    text = (legend[:, : width // 2] > 200).all(-1).any(1).sum()
    assert text >= (8 if width == 400 else 25)  # height of the letters in pixels


def test_the_legend_of_a_narrow_picture_breaks_into_lines(white):
    case = record(Unit("image", 4, grid=(1, 2, 2)), [0], groups=[0, 0, -1, -1])
    narrow, wide = overlay(white.resize((340, 340)), case), overlay(white.resize((1600, 340)), case)
    assert narrow.height - 340 > 1.5 * 22 and wide.height - 340 < 70
    ink = (np.asarray(narrow).astype(int)[340:, -3:] > 100).any()
    assert not ink, "text runs over the edge"


def test_contact_sheet_names_the_share_of_each_frame():
    frames = [Image.new("RGB", (336, 200), "white")] * 5
    case = record(Unit("video", 20, grid=(5, 2, 2)), [0, 1, 2, 3, 19])
    sheet = contact_sheet(frames, case, columns=2)
    assert sheet.width == 336 * 2 + 6 and sheet.height > 3 * 200
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet(frames, case, columns=-1)
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([], case)


def test_compare_shows_every_method(white):
    unit = Unit("image", 4, grid=(1, 2, 2))
    out = compare(white, {"a": record(unit, [0]), "b": record(unit, [3])}, columns=2)
    assert out.width == 480 * 2 + 6
    array = np.asarray(out).astype(int)
    caption = round(1.7 * 15)
    a, b = array[caption : caption + 360, :480], array[caption : caption + 360, 486:]
    assert (centre(a, 0, 0, 2, 2) == 255).all() and (centre(b, 1, 1, 2, 2) == 255).all()
    assert (centre(a, 1, 1, 2, 2) < 80).all() and (centre(b, 0, 0, 2, 2) < 80).all()
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(white, {})


def test_token_under_a_pixel(white):
    still = record(Unit("image", 12, grid=(1, 3, 4)), [0])
    assert [token_at(white, still, x, y) for x, y in ((0, 0), (479, 0), (479, 359), (130, 130))] == [0, 3, 11, 5]
    assert token_at(white, still, 100, 365) is None  # legend
    film = record(Unit("video", 8, grid=(2, 2, 2)), [0])
    assert token_at(white, film, 480 + 6, 359) == 6
    assert token_at(white, film, 482, 100) is None  # gap


def test_describe_tells_place_rank_and_where_a_token_went():
    unit = Unit("image", 4, grid=(1, 2, 2))
    case = record(unit, [2], scores=[0.1, 0.3, 0.9, float("nan")], groups=[0, -1, 0, -1])
    first = describe(case, 0)
    assert (first["row"], first["col"], first["kept"], first["into"]) == (0, 0, False, 2)
    assert (first["rank"], first["of"]) == (3, 3)
    kept = describe(case, 2)
    assert (kept["row"], kept["col"], kept["rank"], kept["members"], kept["into"]) == (1, 0, 1, 2, None)
    assert describe(case, 3)["score"] is None and describe(case, 1)["into"] is None
    with pytest.raises(ValueError, match="tokens 0 to 3"):
        describe(case, 4)


def test_bad_modes_are_refused(white):
    unit = Unit("image", 2, grid=(1, 1, 2))
    with pytest.raises(ValueError, match="'kept', 'scores', 'groups', 'order'"):
        overlay(white, record(unit, [0]), mode="heat")
    with pytest.raises(ValueError, match="no scores.*'kept'"):
        overlay(white, record(unit, [0]), mode="scores")
    with pytest.raises(ValueError, match="merges no tokens"):
        overlay(white, record(unit, [0], scores=[0.0, 1.0]), mode="groups")
    assert modes(record(unit, [0], scores=[0.0, 1.0])) == ("kept", "scores", "order")
