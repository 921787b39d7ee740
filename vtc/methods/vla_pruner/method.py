"""VLA-Pruner: one cut by what the prompt reads now and what the last actions looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from ...core.budget import Keep, keep_count
from ...core.select import topk_indices
from ...core.stage import Decoder, Feedback, ModelFacts, Need, Selection, Stage, View
from ..base import Method, check_range
from .guide import ActionLayers, estimate, spread, union, watched_layers

SLOT = "vla-pruner"
ROWS = {"prefill": "all", "last": "last", "text": "inner"}
INPUTS = Need("decoder", 0, "hidden_in")


@dataclass(kw_only=True)
class VLAPruner(Method):
    """One cut by what the prompt reads now and what the last actions looked at.

    M image tokens, T layers counted from 0, ``A`` attention after the softmax, mean over heads, fp32. Before layer
    K = 3::

        S_vl   = mean over all rows of the prompt of A at layer K - 1              what is read now
        S_act  = sum_{i=1..w} gamma^i h_i, h_1 the newest call                     what actions are expected to look at
        U      = top-k(S_vl) + top-k(S_act),  k = round(keep * M)                  between k and 2 k tokens
        keep   = U if |U| = k, else the k tokens of U that max-min selection picks by the cosine distance of their
                 input embeddings, most isolated token first

    A call leaves behind h, the attention of its action queries to the image tokens, mean over queries and layers, 0
    for tokens that were pruned before a layer and not renormalised. Action queries are the last prompt row and the
    generated tokens but the last (layer T // 2 - 1), action placeholders, or pi0's action rows over all flow steps
    (upper half of the layers). The first w = 3 calls keep everything. Positions are kept; layers before K keep all
    keys and values.

    Parameters
    ----------
    keep : float or int
        1 - r: share of the image tokens that layers from ``layer`` on see (one budget for all cameras), or tokens per
        image. The mean over layers, which the report shows, is larger.
    layer : int
        Layers that see every token (>= 1).
    semantic : {"prefill", "last", "text"}
        Rows whose attention in layer ``layer - 1`` is averaged: all of the prompt; the last one, as FastV does; the
        text behind the images but for its first and last token.
    temporal : bool
        False: only the semantic score, no memory.
    window : int
        Calls that are remembered, and unpruned at the start of an episode.
    gamma : float
        Decay per call, in (0, 1].
    decay_order : {"paper", "code"}
        See :func:`estimate`.
    warmup : {"full", "semantic"}
        The first ``window`` calls keep everything, or are pruned by the semantic score alone.
    action_layers : "upper_half", "middle", sequence of int or None
        0-based layers in which the action queries are watched. "middle" is T // 2 - 1 of T, "upper_half" T // 2 and
        above. None: the middle one where actions are generated, the upper half for placeholders and experts.
    refresh_every : int or None
        Every so many calls after the warm-up keep everything, so that regions no list has kept are looked at again.

    Notes
    -----
    Source: "VLA-Pruner: Temporal-Aware Dual-Level Visual Token Pruning for Efficient Vision-Language-Action
    Inference", arXiv 2511.16449. Differences from the published code, which covers OpenVLA in one environment: the
    newest call weighs most, as in the paper (``decay_order="code"`` turns it round); the prompt's rows are
    averaged, as in the paper (``semantic="last"`` is the code's default); fp32 rankings, ties to the lower index;
    no token is picked twice and a zero row is at distance 1; batches, several cameras under one budget, pi0 and
    one-pass chunks are derived from the paper's text. Layer T // 2 - 1 for generated actions and 3 full layers
    follow the code. The model keeps its attention kernel: only the rows that are needed are computed again.
    """

    name: ClassVar[str] = "vla-pruner"
    summary: ClassVar[str] = "robot policies: attention of the prompt and of earlier actions, over an episode"
    paper: ClassVar[str] = "2511.16449"
    keep: Keep = 0.5
    layer: int = 3
    semantic: Literal["prefill", "last", "text"] = "prefill"
    temporal: bool = True
    window: int = 3
    gamma: float = 0.8
    decay_order: Literal["paper", "code"] = "paper"
    warmup: Literal["full", "semantic"] = "full"
    action_layers: ActionLayers = None
    refresh_every: int | None = None

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 1", lambda v: v >= 1, "layer", "window")
        check_range(self, "a number >= 2", lambda v: v >= 2, "refresh_every")
        check_range(self, "a decay in (0, 1]", lambda v: 0.0 < v <= 1.0, "gamma")

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One cut before ``layer``; it reads the layer before and the rows that entered the language model."""
        need = Need("decoder", self.layer - 1, "query_rows", ROWS[self.semantic])
        return [
            Stage(
                at=Decoder(self.layer),
                select=partial(self.select, need=need),
                keep_count=self.keep_count,
                needs=(need, INPUTS),
                scope="row",
            )
        ]

    def feedback(self, facts: ModelFacts) -> Feedback | None:
        """Attention of the action queries, remembered per environment."""
        return Feedback(watched_layers(self.action_layers, facts), self.remember) if self.temporal else None

    def remember(self, slot: dict, scores: Tensor) -> None:
        """Write down a call at its end, unpruned ones included."""
        memory = slot.setdefault(SLOT, {"history": [], "calls": 0})
        memory["history"] = [*memory["history"], scores][-self.window :]
        memory["calls"] += 1

    def select(self, view: View, need: Need) -> Selection:
        """Choose among the union of what is read now and what the last actions looked at."""
        current = view.stats[need]
        k = view.budget if isinstance(self.keep, int) else keep_count(self.keep, view.n)
        if not self.temporal:
            return Selection(topk_indices(current, k), scores=current)
        memory = view.state.get(SLOT, {"history": [], "calls": 0})
        if len(memory["history"]) < self.window:
            keeps_all = self.warmup == "full"
            return Selection(topk_indices(current, view.n if keeps_all else k), scores=current)
        pruned = memory["calls"] - self.window + 1
        if self.refresh_every is not None and pruned % self.refresh_every == 0:
            return Selection(topk_indices(current, view.n), scores=current)
        history = [h.to(current.device) for h in memory["history"]]
        guide = estimate(history, self.gamma, self.decay_order)
        return Selection(self.choose(current, guide, view.stats[INPUTS], k), scores=current)

    def choose(self, current: Tensor, guide: Tensor, features: Tensor, k: int) -> Tensor:
        """Tokens kept, ascending: the union of both top lists, thinned out by max-min distance to ``k``.

        Parameters
        ----------
        current, guide : Tensor [M]
        features : Tensor [M, D]
        """
        candidates = union(current, guide, k)
        if len(candidates) <= k:
            return candidates
        return candidates[spread(features[candidates], k)].sort().values
