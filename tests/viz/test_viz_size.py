"""Drawings of large pictures, of many of them, and of long ones: within the size, and tokens where they belong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vtc import viz
from vtc.cli.app import app
from vtc.core.layout import Unit


def record(unit, kept=(0,)):
    kept = torch.tensor(kept)
    scores = torch.linspace(0, 1, unit.length)
    groups = torch.zeros(unit.length, dtype=torch.long)
    return SimpleNamespace(
        unit=unit, before=unit.length, after=len(kept), kept=kept, scores=scores, groups=groups, image=0
    )


def tiles(count):
    part, cell = torch.arange(count).repeat_interleave(4), torch.arange(4).repeat(count)
    return Unit("image", 4 * count, part=part, cell=cell, part_grids=((2, 2),) * count)


PICTURES = [(3000, 2000), (880, 880), (300, 4000), (4000, 40), (1, 3000)]


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("side", [256, 900])
def test_every_drawing_fits(size, side):
    image, case = Image.new("RGB", size, "white"), record(Unit("image", 12, grid=(1, 3, 4)))
    drawn = [viz.overlay(image, case, mode, side=side) for mode in viz.MODES]
    drawn += [viz.plain(image, case, side=side), viz.contact_sheet(image, case, side=side)]
    drawn.append(viz.compare(image, {"a": case, "b": case, "c": case}, "scores", side=side))
    assert max(max(picture.size) for picture in drawn) <= side
    assert max(drawn[0].size) > 0.4 * side


@pytest.mark.parametrize("count", [1, 5, 17, 160])
def test_sheets_of_many_frames_fit(count):
    frames = [Image.new("RGB", (400, 300), (0, 0, i)) for i in range(count)]
    film = record(Unit("video", 4 * count, grid=(count, 2, 2)), [0, 4 * count - 1])
    for sheet in (viz.contact_sheet(frames, film), viz.plain(frames, film)):
        assert max(sheet.size) <= viz.SIDE and sheet.width >= min(count, 4) * 150
    assert max(viz.overlay(Image.new("RGB", (3000, 2000)), record(tiles(5))).size) <= viz.SIDE


def test_the_default_is_one_constant_and_none_lifts_it():
    image, case = Image.new("RGB", (3000, 1500)), record(Unit("image", 4, grid=(1, 2, 2)))
    assert viz.SIDE == 2048 and viz.overlay(image, case).width == 2048
    assert viz.overlay(image.resize((2048, 2048)), case).height <= 2048
    assert viz.overlay(image, case, legend=False, side=None).size == (3000, 1500)
    assert viz.overlay(image.resize((400, 300)), case, legend=False).size == (400, 300)


def test_the_token_under_a_pixel_of_a_scaled_drawing():
    unit = Unit("image", 12, grid=(1, 3, 4))
    image, case = Image.new("RGB", (3000, 2250), "white"), record(unit, [6])
    for side in (400, viz.SIDE):
        drawn = np.asarray(viz.overlay(image, case, legend=False, side=side)).astype(int)
        height, width = drawn.shape[:2]
        y, x = int(1.5 * height / 3), int(2.5 * width / 4)
        assert (drawn[y, x] == 255).all() and (drawn[y, int(0.5 * width / 4)] < 200).all()
        assert viz.token_at(image, case, x, y, side=side) == 6
        assert viz.token_at(image, case, width - 1, height - 1, side=side) == 11
    frames = [Image.new("RGB", (800, 600))] * 6
    film = record(Unit("video", 24, grid=(6, 2, 2)))
    sheet = viz.contact_sheet(frames, film, columns=2, side=700)
    assert viz.token_at(frames, film, 2, sheet.height // 6, captions=True, columns=2, side=700) in (0, 2)
    places = range(0, sheet.height, 30)
    right = {viz.token_at(frames, film, sheet.width - 3, y, captions=True, columns=2, side=700) for y in places}
    assert right >= {5, 7, 13, 15, 21, 23}


@pytest.mark.parametrize("side", [0, 255, -5, True, 1000.0, "2048"])
def test_sizes_that_are_refused(side):
    with pytest.raises(ValueError, match=r"side=.* is not allowed: pass a whole number of pixels from 256"):
        viz.overlay(Image.new("RGB", (9, 9)), record(Unit("image", 4, grid=(1, 2, 2))), side=side)


def test_too_many_pictures_for_a_column():
    film = record(Unit("video", 4 * 200, grid=(200, 2, 2)))
    with pytest.raises(ValueError, match="200 pictures, 1 in a row, do not fit into a drawing of 2048 pixels"):
        viz.contact_sheet(Image.new("RGB", (40, 30)), film, columns=1)
    with pytest.raises(ValueError, match="columns=0 is not allowed"):
        viz.contact_sheet(Image.new("RGB", (40, 30)), film, columns=0)


def test_16_bit_pictures_are_drawn_as_they_look():
    ramp = np.tile(np.linspace(0, 65535, 400).astype(np.uint16), (400, 1))
    unit = Unit("image", 4, grid=(1, 2, 2))
    drawn = np.asarray(viz.plain(Image.fromarray(ramp), record(unit)))
    assert abs(int(drawn[200, 200, 0]) - 128) <= 2 and drawn[200, 0, 0] == 0


def test_the_command_line_takes_a_size(tmp_path):
    Image.new("RGB", (3000, 2000), "white").save(tmp_path / "a.png")
    for words, widest in (((), 2048), (("--side", "500"), 500)):
        out = tmp_path / "b.png"
        done = CliRunner().invoke(app, ["viz", str(tmp_path / "a.png"), "--out", str(out), "--methods", "pool", *words])
        assert done.exit_code == 0, done.output
        assert 0.8 * widest < max(Image.open(out).size) <= widest
    assert CliRunner().invoke(app, ["viz", "--side", "3"]).exit_code == 2
