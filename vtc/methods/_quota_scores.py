"""Scores of frames: what a scorer is, and what counts as a valid vector of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

FrameScores: TypeAlias = "str | Tensor | Sequence[float] | Sequence[Tensor | Sequence[float]]"
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
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{where} is a {type(scores).__name__} that is no vector of numbers ({error}); pass one score per "
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
