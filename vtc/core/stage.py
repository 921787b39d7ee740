"""The contract between methods and the engine: a stage acts at a place, asks for needs, sees a view, gives a selection.

Whoever writes a method imports from here, whatever file the parts lie in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .facts import ModelFacts
from .needs import Decoder, Encoder, Need, Place, Projector
from .selection import Selection
from .statistics import Stat
from .view import FrameGrids, View

__all__ = [
    "Decoder",
    "Encoder",
    "Feedback",
    "FrameGrids",
    "ModelFacts",
    "Need",
    "Place",
    "Positions",
    "Projector",
    "Scope",
    "Selection",
    "Stage",
    "Stat",
    "View",
]

Scope = Literal["image", "frame", "row", "clip"]
Positions = Literal["keep", "renumber"]


@dataclass(frozen=True)
class Stage:
    """One decision of a method.

    Parameters
    ----------
    at : Encoder, Projector or Decoder
    select : callable
        ``select(view) -> Selection``; pure tensor code.
    keep_count : callable
        ``keep_count(n)`` for the budget of a view with n tokens.
    needs : tuple of Need
    scope : {"image", "frame", "row", "clip"}
        One decision per image (or video), per partition (frame, tile), for all visual tokens of a row together, or per
        clip: every video is one, and its row's images are left alone; without a video the images of a row are one.
    positions : {"keep", "renumber"}
        What happens to 1-D position ids of later tokens; M-RoPE ids are always kept.
    needs_text : bool or "question"
        Fill ``View.text``: with all text of the prompt, or with what stands behind its last image or video.
    modalities : tuple of str
        Modalities the stage acts on; others pass through untouched.
    unpooled : bool
        Fill ``View.unpooled``.
    """

    at: Place
    select: Callable[[View], Selection]
    keep_count: Callable[[int], int]
    needs: tuple[Need, ...] = ()
    scope: Scope = "image"
    positions: Positions = "keep"
    needs_text: bool | Literal["question"] = False
    modalities: tuple[str, ...] = ("image", "video")
    unpooled: bool = False


@dataclass(frozen=True)
class Feedback:
    """What a method wants to hear of a call after its selection: where the action queries have looked.

    Parameters
    ----------
    layers : tuple of int
        0-based layers of the decoder, or of the expert that reads its cache, whose attention is averaged.
    take : callable
        ``take(slot, scores)`` at the end of a policy call: ``slot`` is ``View.state`` of the row, ``scores`` [M] fp32
        the mean attention of the action queries to the row's visual tokens, 0 where one was pruned before a layer.
    """

    layers: tuple[int, ...]
    take: Callable[[dict, Tensor], None]
