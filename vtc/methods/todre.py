"""ToDRE: keep tokens unlike each other, and drop them all once text and vision ignore each other ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import Objective, greedy_spread, unit_rows
from ..core.select import with_structure
from ..core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from ._diverse import spread_scores
from ._pivot import chat_header, class_need, most_attended
from .base import check_range
from .scorer import BeforeLLM

Pivot = Literal["auto", "cls", "farthest", "center", "random"]


@dataclass(kw_only=True)
class ToDRE(BeforeLLM):
    """Diversity-driven selection after the projector, then all or nothing deep in the language model.

    Stage 1 is blind to the question. With unit rows ``x_v`` the picks start at a pivot and go on greedily::

        max_sum:   next = argmin_v  sum_{c picked} cos(x_v, x_c)        (version 2 of the paper, Algorithm 1)
        k_center:  next = argmin_v  max_{c picked} cos(x_v, x_c)        (the name version 1 uses)

    The picked tokens stay in their original order, nothing is merged. Thumbnail and tiles of one image are
    one set of candidates, so are the frames of a video; images are independent of each other unless
    ``scope="row"``. Newline rows are no candidates: being equal to each other and unlike all patches they
    would eat the budget.

    Stage 2 looks once, behind layer ``floor(7 L / 8)``, at that layer's attention A (after the softmax, mean over heads
    and rows): ``alpha_tv``, what the text pays to the visual tokens that are left, and ``alpha_vt``, what they pay to
    the text, which is 0 unless some text stands before them. If both are below ``tau``, all visual tokens of the
    prompt leave the later layers, else none; every prompt of a batch for itself.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image, that stage 1 leaves; with ``scope="row"`` the budgets are
        added up. Stage 2 may leave none in the last layers: the report shows the mean over layers.
    objective : {"max_sum", "k_center"}
        Max-sum may pick exact duplicates, k-center never does before all distinct rows are used.
    pivot : {"auto", "cls", "farthest", "center", "random"}
        First pick: most [CLS] attention (inside the thumbnail if there are tiles), least or most similar to
        the mean direction, or drawn with ``seed``. "auto" is "cls" for encoders with [CLS], else "farthest".
    cls_layer : int
        Encoder layer of the [CLS] attention, negative from the end: -1 is the last one, as in the paper's
        equation.
    seed : int
        For ``pivot="random"``.
    positions : {"renumber", "keep"}
        1-D position ids after stage 1. M-RoPE always keeps them, and so does stage 2.
    stage2 : {"auto", "on", "off"}
        Whether to look at the relevance. "auto" does so where ``keep`` made stage 1 drop something and the layers
        concerned are no linear attention; "on" with ``keep=1.0`` is stage 2 alone.
    tau : float
        Both ratios must be smaller.
    depth : float
        Fraction of the layers behind which stage 2 looks.
    system_tokens : int or None
        Length of the system prompt, which is not counted as text. None: what the processor's chat template writes
        before the user's first word where :func:`vtc.patch` was given a processor, else all text before the first
        image.

    Notes
    -----
    Source: arXiv 2505.18757 version 2; no code is published. Decided here: head mean of the true
    softmax, whose [CLS] column is dropped (the paper writes one head and patches only), ties to the lower
    index, fp32, which text is no system prompt, nothing is dropped where no text follows.
    """

    name: ClassVar[str] = "todre"
    summary: ClassVar[str] = "greedy diversity of the projected tokens (max-sum or k-center)"
    paper: ClassVar[str] = "2505.18757"
    objective: Objective = "max_sum"
    pivot: Pivot = "auto"
    cls_layer: int = -1
    seed: int = 0
    scope: Literal["image", "row"] = "image"
    stage2: Literal["auto", "on", "off"] = "auto"
    tau: float = 0.1
    depth: float = 0.875
    system_tokens: int | None = None

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a share in (0, 1]", lambda v: 0.0 < v <= 1.0, "tau", "depth")
        check_range(self, "a number of tokens >= 0", lambda v: v >= 0, "system_tokens")

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of one encoder layer when the pivot is a [CLS] one."""
        if self.pivot not in ("auto", "cls") or (self.pivot == "auto" and not facts.has_class_token):
            return ()
        return (class_need(facts, self.cls_layer),)

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, and one cut."""
        return [*super().stages(facts), *self._second(facts)]

    def _second(self, facts: ModelFacts) -> list[Stage]:
        layer = int(self.depth * facts.decoder_layers)
        impossible = not 0 < layer < facts.decoder_layers or any(i >= layer for i in facts.linear_layers)
        if self.stage2 == "off" or (self.stage2 == "auto" and impossible):
            return []
        system = chat_header(self.processor) if self.system_tokens is None else self.system_tokens
        need = Need("decoder", layer - 1, "masses", system)
        select = partial(self.relevance, need=need)
        return [Stage(at=Decoder(layer), select=select, keep_count=self.keep_count, needs=(need,), scope="row")]

    def relevance(self, view: View, need: Need) -> Selection:
        """Keep all visual tokens or none."""
        asked = self.stage2 == "on" or (self.keep != 1.0 and view.n < view.total)
        # NaN, where there is no text to ask, is not smaller
        drop = asked and bool((view.stats[need] < self.tau).all())
        return Selection(torch.arange(0 if drop else view.n, device=view.features.device))

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Pick greedily among the patches."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(keep=with_structure(rows, view.role, self.newlines))
        unit = unit_rows(view.features[rows])
        spread = greedy_spread(unit, k, self._first(view, rows, unit, *stats), self.objective)
        kept = with_structure(rows[spread.order], view.role, self.newlines)
        return Selection(keep=kept, scores=spread_scores(spread, rows, view.n, self.objective))

    def _first(self, view: View, rows: Tensor, unit: Tensor, *stats: Tensor) -> Tensor:
        if stats:
            return most_attended(view, rows, stats[0])
        if self.pivot == "random":
            return torch.randint(len(rows), (), generator=view.generator(self.seed))
        likeness = unit @ unit.sum(0)
        return likeness.argmax() if self.pivot == "center" else likeness.argmin()
