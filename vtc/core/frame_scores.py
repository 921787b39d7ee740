"""Scores of frames: what a scorer is, and what counts as a valid vector of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from .words import shown

FrameScores: TypeAlias = str | Tensor | Sequence[float] | Sequence[Tensor | Sequence[float]]
"""``"uniform"``, one vector ``[T]``, or a list with one vector per clip of the batch."""


@runtime_checkable
class FrameScorer(Protocol):
    """Rates the frames of a call before its vision encoder runs: ``vtc.patch(model, "quota", scorer=...)``.

    The engine calls it once per call of ``model.generate`` or ``model(...)`` that brings images or videos, with vtc
    switched off on the model (the scorer may run the model itself), without gradients, and only while no
    ``frame_scores`` are given.
    """

    def __call__(self, handle: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Rate every frame.

        Parameters
        ----------
        handle : vtc.Handle
            ``handle.model``, ``handle.adapter``; the method is among ``handle.methods`` and carries ``query`` (str or
            None) and ``processor`` (what was passed to ``vtc.patch``, or None).
        inputs : mapping
            Keyword arguments of the call: ``input_ids``, ``attention_mask``, ``pixel_values_videos``,
            ``video_grid_thw`` and what else the user passed, untouched.

        Returns
        -------
        list of Tensor [T]
            One vector of non-negative scores per clip, in order of rows and of places in the prompt: every video is a
            clip; a row with images and no video is one clip whose frames are its images. T is the number of frames, or
            of temporal patches where the encoder joins frames (Qwen2-VL).
        """
        ...


def checked_scores(scores: Any, where: str = "frame_scores") -> Tensor:
    """One vector of scores as float64 ``[T]`` on the CPU.

    Raises
    ------
    TypeError
        Not a vector of numbers.
    ValueError
        Empty, or a score that is NaN, infinite or negative; the message names its frame.
    """
    try:
        values = torch.as_tensor(scores, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{where}={shown(scores)} is a {type(scores).__name__} that is no vector of numbers; pass one score per "
            "frame: a list of floats or a tensor [T]."
        ) from error
    if values.ndim != 1:
        raise TypeError(f"{where} has shape {tuple(values.shape)}; pass one score per frame: a tensor [T].")
    if not len(values):
        raise ValueError(f"{where} is empty; pass one score >= 0 per frame, or frame_scores='uniform'.")
    for frame, value in enumerate(values.tolist()):
        if not math.isfinite(value) or value < 0:
            raise ValueError(
                f"{where}: frame {frame} has score {value}; scores are finite numbers >= 0 such as probabilities "
                "(shift or clip what a model returns as logits or cosines first)."
            )
    return values


def plain_scores(scores: Any) -> Any:
    """Scores as a user may give them, checked, as JSON-ready lists: None, ``"uniform"``, floats or lists of floats.

    Raises
    ------
    TypeError, ValueError
        As :func:`checked_scores`, or another word than "uniform".
    """
    if scores is None or (isinstance(scores, str) and scores == "uniform"):
        return scores
    if isinstance(scores, str):
        raise ValueError(f"frame_scores={shown(scores)} is not known; the only word is 'uniform', else pass numbers.")
    if isinstance(scores, (list, tuple)) and len(scores) and not any(_is_number(s) for s in scores):
        return [checked_scores(s, f"frame_scores[{i}]").tolist() for i, s in enumerate(scores)]
    return checked_scores(scores).tolist()


def plain_scorer(scorer: Any) -> Any:
    """Scorer as it came: None, ``"self"``, a pair (model, processor), or something to call.

    Raises
    ------
    TypeError
        Something else.
    """
    pair = isinstance(scorer, tuple) and len(scorer) == 2
    if scorer is None or pair or callable(scorer) or (isinstance(scorer, str) and scorer == "self"):
        return scorer
    raise TypeError(
        f"scorer={shown(scorer)} is not allowed; pass 'self', a pair (model, processor), or a function "
        "scorer(handle, inputs)."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.ndim == 0)


def clip_scores(given: Any, clip: int, clips: int) -> Tensor | None:
    """Scores of one clip of a batch, None for ``"uniform"``.

    Raises
    ------
    ValueError
        There are not as many vectors as clips.
    """
    if isinstance(given, str):
        return None
    several = bool(len(given)) and not _is_number(given[0])
    vectors = list(given) if several else [given]
    if len(vectors) != clips:
        what = f"a list of {len(vectors)} vectors" if several else "one vector of scores"
        raise ValueError(
            f"{what} for a batch with {clips} videos: pass a list with one vector per video, in order of rows and of "
            "places in the prompt (a row with images and no video counts as one video)."
        )
    return checked_scores(vectors[clip], f"frame_scores[{clip}]" if several else "frame_scores")


def per_part(scores: Tensor, parts: int, joined: int) -> Tensor:
    """Bring scores of frames to the frames the model tells apart: the best of ``joined`` neighbours.

    Parameters
    ----------
    scores : Tensor [T]
    parts : int
        Frames, or temporal patches, the encoder made.
    joined : int
        Frames per temporal patch (2 for Qwen2-VL); the processor repeats the last frame to fill the last one.

    Returns
    -------
    Tensor [parts]

    Raises
    ------
    ValueError
        Neither one score per part nor one per frame.
    """
    if len(scores) == parts:
        return scores
    if joined > 1 and -(-len(scores) // joined) == parts:
        missing = parts * joined - len(scores)
        return torch.cat([scores, scores[-1:].expand(missing)]).view(parts, joined).amax(1)
    also = f" (or {parts * joined}, one per frame: the encoder joins {joined})" if joined > 1 else ""
    raise ValueError(
        f"{len(scores)} scores for a video of {parts} frames{also}: score the frames that were sampled, in their order."
    )
