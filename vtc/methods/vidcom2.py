"""VidCom2: unusual frames get more tokens, unusual tokens stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import share_out
from ..core.select import topk_indices, with_structure
from ..core.stage import Selection, View
from ._frames import frame_means, frame_of_tokens, likenesses
from .base import check_range
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class VidCom2(BeforeLLM):
    """Tokens of a video by the uniqueness of frames and tokens.

    Let ``x[t, m]`` be the projected tokens of a video, frame t of T, token m of ``M_t``, and cos the cosine (fp32).
    Neither the question nor any attention is read::

        g     = mean of all x                       what the video looks like as a whole
        g_t   = mean over m of x[t, m]              what frame t looks like
        a     = cos(x[t, m], g)                     likeness to the video
        b     = cos(x[t, m], g_t)                   likeness to its own frame

        u_t   = - mean over m of a                  uniqueness of frame t
        p_t   = softmax over t of u_t / temperature
        k_t   ~ M_t (1 + p_t - 1/T)                 budget of frame t, scaled so that all add up to K
        score = - a - b                             uniqueness of a token across the video and within its frame
        keep    the k_t tokens of largest score of every frame, in their original order

    K is the budget of the library (``keep`` of the video's patches). The shares ``K k_t / sum k`` are cut at
    ``M_t``, what full frames cannot take goes to the others in the same proportion, and fractions are rounded by
    largest remainder, so that the budgets add up to K exactly. Ties go to the lower token and the earlier frame. An
    image, whatever its tiles, is a video of one frame, of which the tokens least like the mean token stay; a video
    of one frame is the same.

    Parameters
    ----------
    keep : float or int
        Share of the patches of each video (or image), or tokens per video.
    temperature : float
        Of the softmax over the uniqueness of frames; larger is more even.
    scope : {"image", "row"}
        One selection per video (or image), or one for all visual tokens of a prompt, whose images are then frames like
        those of a video.

    Notes
    -----
    Source: arXiv 2505.14454. This is an implementation from the description of the paper; its code was not
    consulted. Uncertain: the temperature (0.01 as remembered; a small one gives nearly all of the extra share
    ``1/T`` to the most unusual frame), whether likenesses are plain cosines everywhere or pass through a kernel
    first, how much frames below the mean may lose (here at most ``1/T`` of their even share), and how the published
    code rounds and clips budgets.
    """

    name: ClassVar[str] = "vidcom2"
    summary: ClassVar[str] = "frames by uniqueness, tokens by uniqueness in frame and video (baseline)"
    paper: ClassVar[str] = "2505.14454"
    temperature: float = 0.01
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 1e-6", lambda v: v >= 1e-6, "temperature")

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Share the budget over the frames, then keep the most unusual tokens of each."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(with_structure(rows, view.role, self.newlines))
        frame = frame_of_tokens(view)[rows].unique(return_inverse=True)[1]
        sizes = torch.bincount(frame)
        like_video, like_frame = likenesses(view.features[rows], frame, sizes)
        scores = like_video.new_full((view.n,), torch.nan)
        scores[rows] = -like_video - like_frame
        uniqueness = -frame_means(like_video[:, None], frame, sizes)[:, 0]
        extra = torch.softmax(uniqueness / self.temperature, 0) - 1 / len(sizes)
        budgets = share_out(k, sizes * (1 + extra), sizes).tolist()
        members = [rows[frame == t] for t in range(len(sizes))]
        kept = torch.cat([m[topk_indices(scores[m], b)] for m, b in zip(members, budgets, strict=True)])
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)
