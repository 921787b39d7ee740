"""QuoTA: every frame of a video gets tokens in proportion to how well it answers the question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...core.frame_scores import FrameScorer, FrameScores, plain_scorer, plain_scores
from ...core.stage import FrameGrids, ModelFacts, Projector, Selection, Stage, View
from ..base import Method, check_range, checked_by
from .frames import Frame, frames_of, per_token, scores_of
from .placement import place, place_unpooled
from .rows import move_rows, rows_of_unpooled
from .shares import assign, least_tokens, resolve_cap


@dataclass(kw_only=True)
class Quota(Method):
    """Share the budget of a video between its frames by their scores and resample each frame to its share.

    Frame i of T gets ``c_i = floor(N w_i)`` tokens, ``w_i = s_i^2 / sum_j s_j^2``; its features are resampled to a grid
    of at most ``c_i``. Scores come from outside: ``frame_scores`` here, ``with handle.frame_scores(scores):`` around a
    call, or a ``scorer``. Every video has its own budget. Images beside a video are left alone; images of a row without
    a video are the frames of one, in their order, as families without video are used.

    Parameters
    ----------
    keep : float or int
        Budget N: share of the video's native visual tokens, or tokens per video (per image, where images are the
        frames). Newlines come on top. The published "same budget, more frames" of 64 x 196 tokens for 96 frames is
        ``keep=64 / 96`` or ``keep=12544``. ``keep=1.0`` changes nothing, whatever the scores.
    frame_scores : "uniform", Tensor [T], list of float, or list of vectors
        Finite numbers >= 0, one per sampled frame; one vector per video of a batch. All zero counts as uniform; a
        single frame needs none. Where the encoder joins two frames (Qwen2-VL) the better one counts; one score per
        pair is accepted as well.
    scorer : callable, "self" or (model, processor), optional
        Asked for scores before the encoder of a call runs, when ``frame_scores`` is None; see
        :class:`~vtc.core.frame_scores.FrameScorer`. ``"self"`` is the patched model itself, a pair (model,
        processor) another one, see :func:`vtc.video.as_scorer`. Only ``"self"`` is saved with a configuration.
    query : str, optional
        The question, for the scorer.
    operator : {"auto", "bilinear", "average", "pick", "merge", "separable"}
        How frames are resampled, v1 to v5 of the code. ``"auto"``: as the model itself pools its videos, else bilinear.
    exponent : float
        Contrast: 2 as published, 1 proportional, 0 uniform.
    cap : {"auto", "none", "official", "fill"}
        Most tokens of a frame. ``"none"``: no limit, a frame may be up-sampled (bilinear only, and only where frames
        are resampled before the model's own pooling). ``"official"``: native size, handing on the excess as the
        published code does, which loses part of the budget. ``"fill"``: native size, by exact water-filling.
        ``"auto"``: none where that is possible, else fill.
    min_tokens : int, optional
        Least tokens of a frame, by water-filling. None: 1 where text stands between the frames (Qwen3-VL's time stamps)
        and the budget allows it, else 0. A frame that gets 0 vanishes with its newlines; text around it stays.

    Notes
    -----
    Source: arXiv 2503.08689 and its code (MAC-AutoML/QuoTA). Frames are resampled from the grid before the model's own
    pooling where a family's adapter tells where that is (LLaVA-OneVision, LLaVA-NeXT-Video: equal scores then give the
    model's own features), else from the features, within their native size. Differences: weights are rounded down with
    a guard of 1e-9 against float noise; grids that are not square keep their aspect ratio; frames of different sizes
    are weighted by their size; when every share rounds to zero the best frames get one token each; features that fill
    no rectangle are picked at even distances. 1-D positions are contiguous; M-RoPE ids are those of the native token
    under the centre of each new one.

    The encoder still sees every frame and a scorer takes its own time (``report()`` has it as "score"): at the same
    budget this buys accuracy, not speed (21.7 s against 15.3 s as published).
    """

    name: ClassVar[str] = "quota"
    summary: ClassVar[str] = "tokens per frame by query scores, frames resampled (long video; needs frame_scores)"
    paper: ClassVar[str] = "2503.08689"
    frame_scores: FrameScores | None = checked_by(plain_scores)
    scorer: FrameScorer | Literal["self"] | tuple[Any, Any] | None = checked_by(plain_scorer)
    query: str | None = None
    operator: Literal["auto", "bilinear", "average", "pick", "merge", "separable"] = "auto"
    exponent: float = 2.0
    cap: Literal["auto", "none", "official", "fill"] = "auto"
    min_tokens: int | None = None

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "2 as published, 1 proportional, 0 uniform, or another >= 0", lambda v: v >= 0, "exponent")
        check_range(self, "a number of tokens per frame >= 0", lambda v: v >= 0, "min_tokens")
        if self.min_tokens and self.cap == "official":
            raise ValueError("cap='official' knows no min_tokens; choose cap='fill', which honours it.")

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, per video."""
        return [Stage(Projector(), self.select, self.keep_count, (), "clip", "renumber", unpooled=True)]

    @property
    def wants_scorer(self) -> bool:
        """True when the scorer is to be asked before a call."""
        return self.scorer is not None and self.frame_scores is None and self.keep != 1.0

    def to_dict(self) -> dict[str, Any]:
        """Configuration, without a scorer that is an object of this process."""
        saved = (k for k in self.options() if k != "scorer" or self.scorer == "self")
        return {"method": self.name, **{k: getattr(self, k) for k in saved}}

    def select(self, view: View) -> Selection:
        """Assign tokens, resample every frame, and say which slots of the prompt are used."""
        frames, loose = frames_of(view)
        if not any(f.size for f in frames):
            return Selection(torch.arange(view.n, device=view.features.device))
        scores = scores_of(view, self.frame_scores, len(frames))
        operator, unpooled = self._operator(view, frames)
        counts = self._counts(view, frames, scores, operator, unpooled)
        if unpooled is None:
            placement = place(frames, counts, operator, loose)
            values = move_rows(placement, view.features)
        else:
            placement = place_unpooled(frames, counts, unpooled.grid, operator, loose)
            values = rows_of_unpooled(placement, view.features, unpooled)
        return Selection(
            keep=placement.keep.to(view.features.device),
            values=values,
            scores=per_token(frames, scores, view.n).to(view.features.device),
            groups=placement.groups(view.n).to(view.features.device),
            remap=partial(move_rows, placement, view.features),
        )

    def _operator(self, view: View, frames: list[Frame]) -> tuple[str, FrameGrids | None]:
        """Operator, and the frames before the model's pooling where they are to be used."""
        unpooled = view.unpooled
        if unpooled is not None and any(f.regions[0].grid is None for f in frames):
            unpooled = None  # an earlier stage has dropped rows: they are not to come back
        if self.operator == "auto":
            return ("bilinear" if unpooled is None else unpooled.pooling), unpooled
        return self.operator, None if self.operator == "merge" else unpooled  # v4 starts from the model's own pooling

    def _counts(
        self, view: View, frames: list[Frame], scores: Tensor, operator: str, unpooled: FrameGrids | None
    ) -> list[int]:
        """Tokens per frame."""
        sizes = torch.tensor([f.size for f in frames])
        whole = [int(sizes.sum())] if view.modality == "video" else sizes.tolist()
        budget = sum(map(self.keep_count, whole))
        free = unpooled is not None and operator == "bilinear"
        cap = resolve_cap(self.cap, free)
        most = sizes if unpooled is None else torch.full_like(sizes, unpooled.grid[0] * unpooled.grid[1])
        least = least_tokens(self.min_tokens, view.apart, self.cap, budget, len(frames))
        return assign(scores, sizes, budget, cap, most, least, self.exponent)
