"""VScan: tokens of a local and of a global scan, the rest merged into them, and one cut in the language model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import split_evenly
from ..core.diversity import unit_rows
from ..core.merge import assign_nearest
from ..core.select import parts_of, require_finite, topk_indices, with_structure
from ..core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from ._merging import merge_into
from ._vision import attention_stat, whole_image_layers
from ._windows import best_of_windows, windows_of
from .base import check_range
from .scorer import BeforeLLM

SHALLOW = 0.21  # of the encoder's depth: layer 5 of CLIP's 24


@dataclass(kw_only=True)
class VScan(BeforeLLM):
    """Two scans of the encoder with merging, then one cut halfway through the language model.

    With the attention a_l of [CLS] (or what a patch receives) in a shallow and in the feature layer, K tokens per
    crop::

        local    floor(K / 2) tokens by falling a_shallow, at most ceil(K_loc / W) of each of the W windows
        global   the rest of K: the largest a_deep among the others
        every dropped token joins the kept one with the largest cosine of projected rows; kept row = mean of its group
        before decoder layer L / 2, a third stays: the largest attention of the last prompt token in that layer

    Parameters
    ----------
    keep : float or int
        T, of each image's patches, as the mean over the decoder's layers: ``1.5 T`` enter and ``0.5 T`` are left behind
        the cut (96 and 32 for 64). Where 1.5 T is more than there is, everything enters and the cut takes what is over.
    window : int or None
        Side of a window in tokens; None: 6 for encoders with [CLS], else 4.
    shallow : int or None
        0-based layer of the local scan; None: at 0.21 of the depth, or the first after it that sees the whole image.
    stage2 : {"auto", "on", "off"}
        The cut; "off", and "auto" on decoders with linear attention behind it, let T tokens enter.

    Notes
    -----
    Source: arXiv 2505.22654 and its code, whose rule for Qwen-VL is taken everywhere: for LLaVA the code rounds down in
    every window and loses tokens where K / 2 is no multiple of the windows. Differences: any batch, images and videos,
    crop by crop and frame by frame; positions are kept behind the cut on M-RoPE; fp32 sums, ties to the lower index.
    """

    name: ClassVar[str] = "vscan"
    summary: ClassVar[str] = "local and global scan with merging, one cut in the language model (baseline)"
    paper: ClassVar[str] = "2505.22654"
    window: int | None = None
    shallow: int | None = None
    stage2: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of tokens >= 1", lambda v: v >= 1, "window")
        check_range(self, "a layer >= 0", lambda v: v >= 0, "shallow")
        self._cuts, self._side = True, 6

    def entering(self, n: int) -> int:
        """Tokens of an image of ``n`` that enter the language model."""
        mean = self.keep_count(n)
        return min(n, round(1.5 * mean)) if self._cuts else mean

    def left(self, n: int) -> int:
        """Tokens of an image of ``n`` that are left behind the cut."""
        return min(n, max(1, 2 * self.keep_count(n) - self.entering(n))) if n else 0

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the shallow layer and of the one that makes the features."""
        whole, stat = whole_image_layers(facts, self.name), attention_stat(facts)
        from_layer = int(SHALLOW * facts.vision_layers) if self.shallow is None else self.shallow
        first = next((layer for layer in whole if layer >= from_layer), whole[-1])
        return tuple(Need("vision", layer, stat) for layer in dict.fromkeys((first, whole[-1])))

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, and one cut."""
        layer = round(facts.decoder_layers / 2)
        possible = 0 < layer < facts.decoder_layers and not any(i >= layer for i in facts.linear_layers)
        self._cuts = self.stage2 == "on" or (self.stage2 == "auto" and possible and not facts.no_cuts)
        self._side = self.window or (6 if facts.has_class_token else 4)
        (first,) = super().stages(facts)
        stages = [Stage(first.at, first.select, self.entering, first.needs, positions=self.positions)]
        if self._cuts:
            need = Need("decoder", layer, "next_rows", "last")
            cut = partial(self.cut, need=need)
            stages.append(Stage(Decoder(layer), cut, self.left, (need,), "row", self.positions))
        return stages

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Scan every crop, and merge what is dropped."""
        groups, deep = parts_of(view.part, view.role), stats[-1]
        slot = torch.full((view.n,), -1, dtype=torch.long, device=view.features.device)
        budgets = [self.entering(len(g)) for g in groups]
        if isinstance(self.keep, int):
            budgets = split_evenly(self.entering(sum(map(len, groups))), [len(g) for g in groups])
        for rows, k in zip(groups, budgets, strict=True):
            if k:
                kept = rows[self.scan(view, rows, stats[0][rows], deep[rows], k)]
                unit = unit_rows(view.features[rows])
                slot[rows] = kept[assign_nearest(unit, unit_rows(view.features[kept]))]
                slot[kept] = kept
        kept = (slot == torch.arange(view.n, device=slot.device)).nonzero(as_tuple=True)[0]
        keep = with_structure(kept, view.role, self.newlines)
        if len(keep) == view.n:
            return Selection(keep, scores=deep)
        slot[keep] = torch.where(slot[keep] < 0, keep, slot[keep])
        return merge_into(view.features, keep, slot, deep)

    def scan(self, view: View, rows: Tensor, shallow: Tensor, deep: Tensor, k: int) -> Tensor:
        """Positions [k], ascending, of the tokens of one crop that both scans keep."""
        require_finite(shallow, "The attentions of the visual tokens")
        part, grids = int(view.part[rows[0]]), view.units[0].filled().part_grids
        grid = grids[part] if part < len(grids) else (1, len(rows))
        window, count = windows_of(view.cell[rows], grid, self._side)
        local = best_of_windows(shallow, window, count, k // 2)
        others = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        others[local] = False
        rest = others.nonzero(as_tuple=True)[0]
        return torch.cat([local, rest[topk_indices(deep[rest], k - len(local))]]).sort().values

    def cut(self, view: View, need: Need) -> Selection:
        """Keep what the last prompt token looks at, of all images of a prompt."""
        scores = view.stats[need]
        left = sum(self.left(unit.length) for unit in view.units)
        return Selection(topk_indices(scores, min(view.n, left)), scores=scores)
