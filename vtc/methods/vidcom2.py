"""VidCom2: unusual frames get more tokens, unusual tokens stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import share_out
from ..core.select import require_finite, with_structure
from ..core.stage import Selection, View
from ._frames import best_of_frames, closeness, frame_means, frame_of_tokens, likenesses, steady_channels, to_total
from .base import check_range
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class VidCom2(BeforeLLM):
    """Tokens of a video by the uniqueness of frames and tokens; neither the question nor any attention is read.

    Frame t of T has M tokens ``x[t, m]``, R is the share to keep. The published code, and the default::

        C      = the floor(D / 2) channels of smallest variance over all tokens
        y      = x[.., C] / |x[.., C]|,  g = mean of all y,  g_t = mean over m of y[t, m]
        K(d)   = sum over a in {1/8, 1/4, 1/2, 1, 2} of exp(-d / (2 a))
        v, f   = K(|y - g|^2), K(|y - g_t|^2)                 likeness to the video, to the own frame
        u_t    = - mean over m of v[t, m],  p = softmax over t of u / temperature
        k_t    = max(round(M min(R (1 + p_t - 1/T), 1)), 1)   tokens of frame t, of smallest v + f

    and then, so that exactly R of the video stays, the kept tokens of largest ``v + f`` anywhere go, or the dropped
    ones of smallest come back. The paper's text (``preset="paper"``) has plain cosines to the means of all raw
    channels instead of C and K, and shares the budget out in proportion to ``M_t (1 + p_t - 1/T)`` by largest
    remainder. The two keep 8 to 90 % of the same tokens, most for the choice of channels.

    An image, whatever its tiles, is a video of one frame.

    Parameters
    ----------
    keep : float or int
        R, of the patches of each video (or image), or tokens per video.
    preset : {"official", "paper"}
        The code that made the published numbers, or the text.
    temperature : float
        Of the softmax over the uniqueness of frames; larger is more even.
    channels : float
        Share of the channels that count, of smallest variance; for "official".
    exact : bool
        False: as many tokens as the rounded ``k_t`` add up to, as the published code; for "official".
    scope : {"image", "row"}
        One selection per video (or image), or one for all visual tokens of a prompt, whose images are then frames like
        those of a video.

    Notes
    -----
    Source: arXiv 2505.14454, its code, and the adaptation in vLLM, whose exact total is ours. Differences: any
    batch; images, which the code leaves alone; frames of several sizes; row newlines go with their row's tokens or
    stay all; fp32 throughout, ties to the lower token and the earlier frame.
    """

    name: ClassVar[str] = "vidcom2"
    summary: ClassVar[str] = "frames by uniqueness, tokens by uniqueness in frame and video (baseline)"
    paper: ClassVar[str] = "2505.14454"
    preset: Literal["official", "paper"] = "official"
    temperature: float = 0.01
    channels: float = 0.5
    exact: bool = True
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 1e-6", lambda v: v >= 1e-6, "temperature")
        check_range(self, "a share in (0, 1]", lambda v: 0.0 < v <= 1.0, "channels")

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Share the budget over the frames, then keep the most unusual tokens of each."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(with_structure(rows, view.role, self.newlines))
        require_finite(view.features[rows], "The features of the visual tokens")
        frame = frame_of_tokens(view)[rows].unique(return_inverse=True)[1]
        choose = self._official if self.preset == "official" else self._paper
        kept, likeness = choose(view.features[rows], frame, torch.bincount(frame), k)
        scores = torch.full((view.n,), torch.nan, dtype=likeness.dtype, device=likeness.device)
        scores[rows] = -likeness
        return Selection(with_structure(rows[kept], view.role, self.newlines), scores=scores)

    def _extra(self, like_video: Tensor, frame: Tensor, sizes: Tensor) -> Tensor:
        """Share [T] by which the uniqueness of a frame moves its budget: it sums to 0."""
        uniqueness = -frame_means(like_video[:, None], frame, sizes)[:, 0]
        return torch.softmax(uniqueness / self.temperature, 0) - 1 / len(sizes)

    def _official(self, x: Tensor, frame: Tensor, sizes: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Kept tokens bool [N] and what they are ranked by, smallest first."""
        like_video, like_frame = closeness(x[:, steady_channels(x, self.channels)], frame, sizes)
        share = self.keep if isinstance(self.keep, float) else k / len(x)
        shares = (share * (1 + self._extra(like_video, frame, sizes))).clamp_max(1)
        counts = (shares * sizes).round().long().clamp_min(1).tolist()
        likeness = like_video + like_frame
        kept = best_of_frames(-likeness, frame, counts)
        return (to_total(kept, -likeness, k) if self.exact else kept), likeness

    def _paper(self, x: Tensor, frame: Tensor, sizes: Tensor, k: int) -> tuple[Tensor, Tensor]:
        like_video, like_frame = likenesses(x, frame, sizes)
        budgets = share_out(k, sizes * (1 + self._extra(like_video, frame, sizes)), sizes).tolist()
        likeness = like_video + like_frame
        return best_of_frames(-likeness, frame, budgets), likeness
