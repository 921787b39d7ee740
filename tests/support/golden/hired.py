"""Golden files of HiRED."""

from __future__ import annotations

import numpy as np
import torch

from vtc.core.select import topk_indices
from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods.hired.tiles import tile_content, tile_of

from . import clip as tiny_clip
from .packing import best_grid, unpad
from support.oracles.views import anyres_index, plain_view, tiled_view

FACTS = ModelFacts(vision_layers=24, feature_layer=22, has_class_token=True)


def single(arrays):
    finals = torch.from_numpy(arrays["cls_rows_final"])[:, :, 1:].mean(1)
    for m, rate in enumerate(arrays["rate"]):
        (stage,) = make_method("hired", keep=float(rate), preset="official").stages(FACTS)
        for i, scores in enumerate(finals):
            stats = dict.fromkeys(stage.needs, scores)
            kept = stage.select(plain_view(torch.zeros(len(scores), 1), stage.keep_count, stats)).keep
            assert kept.tolist() == [j for j in arrays["keep"][m, i].tolist() if j >= 0], (rate, i)
            assert len(kept) == arrays["count"][m, i]


def anyres(arrays):
    early, late = (torch.from_numpy(arrays[f"cls_rows_{name}"])[:, :, 1:] for name in ("init", "final"))
    for m in range(len(arrays["rate"])):
        start = 0
        for i, partitions in enumerate(arrays["partitions"].tolist()):
            rows = slice(start, start + partitions)
            start += partitions
            image = Image(arrays, i, partitions, early[rows], late[rows])
            if "paper_budget" in arrays:
                image.paper(m, rows)
            kept = image.official(m, rows)
            # on other grids the published stitching swaps rows and columns
            if image.square:
                assert kept == image.theirs(m, i), f"configuration {m}, image {i}: packed order differs"


def clip(arrays):
    model = tiny_clip.build(arrays)
    seen, hidden = tiny_clip.observe(model, torch.from_numpy(arrays["pixel_values"]))
    for name, layer in (("init", 0), ("final", 22)):
        stored = torch.from_numpy(arrays[f"cls_rows_{name}"])[:, :, 1:]
        torch.testing.assert_close(seen[layer], stored, atol=1e-5, rtol=0)
    anyres({**arrays, "cls_rows_init": with_class(seen[0]), "cls_rows_final": with_class(seen[22])})
    rows = slice(0, int(arrays["partitions"][0]))
    image = Image(arrays, 0, rows.stop, seen[0][rows], seen[22][rows])
    features = torch.stack([hidden[p, 1 + token] for p, token in image.official(0, rows)])
    torch.testing.assert_close(features, torch.from_numpy(arrays["features_cfg0"]), atol=1e-4, rtol=0)


def with_class(rows):
    """Put the [CLS] column back that :func:`anyres` cuts off."""
    return torch.cat([rows[..., :1], rows], -1).numpy()


class Image:
    """One image of a file: its packing, and the rows of its partitions."""

    def __init__(self, arrays, i, partitions, early, late):
        self.arrays, self.early, self.late = arrays, early, late
        side = int(arrays["cfg_image_size"]) // int(arrays["cfg_patch_size"])
        size = arrays["image_sizes"][i].tolist()
        self.grid = best_grid(size, arrays["pinpoints"].tolist(), int(arrays["cfg_image_size"]))
        if "grid_hw" in arrays:
            assert list(self.grid) == arrays["grid_hw"][i].tolist()
        self.side, self.n = side, side * side
        self.square = self.grid[0] == self.grid[1]
        cut = unpad((self.grid[0] * side, self.grid[1] * side), size)
        self.index = anyres_index(self.grid, side, *cut, newlines=False)
        assert self.grid[0] * self.grid[1] + 1 == partitions

    def view(self, stage):
        part, cell, role = self.index
        first, last = stage.needs
        raw = {first: list(self.early.mean(1)), last: list(self.late.mean(1))}
        stats = {need: torch.stack(maps)[part, cell] for need, maps in raw.items()}
        info = {"part_stats": raw, "tile_grid": self.grid}
        grids = [(self.side, self.side)] * len(self.early)
        return tiled_view(torch.zeros(len(part), 1), stage.keep_count, stats, part, cell, role, grids, info), raw

    def run(self, m, **options):
        method = make_method(
            "hired", keep=float(self.arrays["rate"][m]), alpha=float(self.arrays["alpha"][m]), **options
        )
        (stage,) = method.stages(FACTS)
        view, raw = self.view(stage)
        first, last = stage.needs
        budgets = method.budgets(view, raw[first][0], [self.n] * len(self.early))
        return stage.select(view).keep, budgets, raw[last]

    def official(self, m, rows):
        """Kept (partition, token) pairs in packed order, after the counts and masks were compared."""
        kept, budgets, late = self.run(m, preset="official")
        assert budgets == self.arrays["count"][m, rows].tolist(), f"configuration {m}"
        masks = np.unpackbits(self.arrays["keep_mask"][m, rows], axis=-1)[:, : self.n].astype(bool)
        for p, budget in enumerate(budgets):
            assert topk_indices(late[p], budget).tolist() == masks[p].nonzero()[0].tolist(), f"partition {p}"
        part, cell, _ = self.index
        pairs = list(zip(part[kept].tolist(), cell[kept].tolist(), strict=True))
        present = zip(part.tolist(), cell.tolist(), strict=True)
        assert pairs == [(p, c) for p, c in present if masks[p, c]]
        return pairs

    def paper(self, m, rows):
        """Budgets of Equation 1 against the stored ones."""
        _, budgets, _ = self.run(m)
        assert budgets == self.arrays["paper_budget"][m, rows].tolist(), f"configuration {m}"
        heads = self.early.shape[1]
        tile = tile_of(self.side, self.side, self.grid, "spatial")
        mass = tile_content(self.early[0].mean(0), tile, len(budgets) - 1, "mass", 0) * heads
        expected = torch.from_numpy(self.arrays["paper_content_score"][m, rows])
        torch.testing.assert_close(mass.float(), expected[1:], atol=1e-4, rtol=1e-4)

    def theirs(self, m, i):
        lengths = self.arrays["packed_len"][m].tolist()
        start = sum(lengths[:i])
        return [tuple(pair) for pair in self.arrays["packed"][m, start : start + lengths[i]].tolist()]


KINDS = {
    "hired_single": single,
    "hired_anyres2x2": anyres,
    "hired_anyres_mixed": anyres,
    "hired_anyres_pad": anyres,
    "hired_anyres_clamp": anyres,
    "hired_clip": clip,
}
