"""The adapters' own geometry: the overlay shows a bright spot's token where the spot is."""

from __future__ import annotations

import pytest
import torch
from transformers import LlavaNextImageProcessor

from vtc.adapters import find_adapter
from vtc.adapters.base import FeatureCall

from support import tiny_families as families
from support.spots import spot_is_kept, spotted


def unfolded(pixels):
    """Brightness of every patch: [tiles, patches]."""
    return torch.nn.functional.unfold(pixels, 4, stride=4).mean(1)


@pytest.mark.parametrize("size", [(300, 180), (120, 333), (200, 200)])
@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_anyres_tiles(name, size):
    model = families.FAMILIES[name].build()
    side = {"shortest_edge": families.SIDE}
    crop = {"height": families.SIDE, "width": families.SIDE}
    processor = LlavaNextImageProcessor(image_grid_pinpoints=families.PINPOINTS, size=side, crop_size=crop)
    image = spotted(size, (0.7, 0.35))
    made = dict(processor(image, return_tensors="pt"))
    unit = find_adapter(model).units(model, FeatureCall("image", made, None, None))[0].filled()
    light = unfolded(made["pixel_values"][0])
    assert len(light) == len(unit.part_grids) > 1
    for panel, (first, tiles) in enumerate(((0, light[:1]), (1, light[1:]))):
        tile, cell = divmod(int(tiles.argmax()), light.shape[1])
        (token,) = ((unit.part == first + tile) & (unit.cell == cell)).nonzero()[:, 0].tolist()
        assert spot_is_kept(image, unit, token, panel)
