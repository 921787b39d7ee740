"""What QuoTA decides before the model sees a video: entities, scores, and tokens per frame, to look at and to reuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..core.budget import Keep, check_keep, keep_count
from ..core.fields import fit
from ..core.frame_scores import checked_scores
from .entities import decouple as ask_for_entities
from .entities import frame_question
from .reading import Clip, read_video
from .sampling import frame_times
from .scorers import PictureScorer
from .vlm import VLMScorer

if TYPE_CHECKING:
    from PIL.Image import Image

Cap = Literal["none", "official", "fill"]


@dataclass(frozen=True)
class Plan:
    """Scores of the frames of one video for one question, and what they make of a budget.

    Parameters
    ----------
    query : str
    entities : list of str
        Visible things the question depends on; empty: frames were rated for the question itself.
    question : str
        What a vision-language model is asked about every frame.
    scores : Tensor [T] fp64
        Pass them on as ``frame_scores=plan.scores``.
    times : list of float or None
        Seconds from the start to each frame, where they are known.
    frames : list of PIL.Image.Image
        What was rated, to be handed to the model's processor.
    tokens : list of int or None
        Tokens of every frame, after :meth:`assign`.
    grids : list of (int, int) or None
        Rows and columns of tokens, (0, 0) for a frame that vanishes.
    """

    query: str
    entities: list[str]
    question: str
    scores: Tensor
    times: list[float] | None = None
    frames: list[Image] = field(default_factory=list, repr=False, compare=False)
    tokens: list[int] | None = None
    grids: list[tuple[int, int]] | None = None

    def assign(
        self, budget: Keep, grid: tuple[int, int], exponent: float = 2.0, cap: Cap = "fill", min_tokens: int = 0
    ) -> Plan:
        """Copy of the plan with tokens and grids, by the rule of the method ``quota``.

        Parameters
        ----------
        budget : int or float
            Tokens of all frames together, or their share of ``T * h * w``.
        grid : (int, int)
            Rows and columns h, w of one frame's tokens as the model makes them.
        exponent, cap, min_tokens
            See :class:`vtc.methods.Quota`; ``cap="none"`` lets frames outgrow the grid.

        Raises
        ------
        ValueError
            A number out of range.
        """
        from ..methods.quota.resample import token_grid
        from ..methods.quota.shares import assign

        height, width = grid
        if height < 1 or width < 1:
            raise ValueError(f"grid={grid!r} is not allowed: pass rows and columns of tokens, both at least 1.")
        fit("cap", cap, Cap)
        budget = check_keep(budget, "budget")
        sizes = torch.full((len(self.scores),), height * width)
        number = keep_count(budget, int(sizes.sum()))
        counts = assign(self.scores, sizes, number, cap, sizes, min_tokens, exponent)
        grids = [token_grid(count, height, width, cap != "none") for count in counts]
        return replace(self, tokens=[rows * cols for rows, cols in grids], grids=grids)

    def joined(self, pictures: int = 2) -> Plan:
        """Plan whose frames are temporal patches of several pictures, as Qwen2-VL joins two: the best score counts.

        An odd end is filled up by its last picture, as the processors do.
        """
        chunks = range(0, len(self.scores), pictures)
        best = [self.scores[i : i + pictures].max() for i in chunks]
        times = None if self.times is None else [self.times[i] for i in chunks]
        return replace(self, scores=checked_scores(best), times=times, tokens=None, grids=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the frames."""
        return {
            "query": self.query,
            "entities": self.entities,
            "question": self.question,
            "scores": self.scores.tolist(),
            "times": self.times,
            "tokens": self.tokens,
            "grids": self.grids,
        }


def plan(
    video: str | Path | Clip | Sequence[Any],
    query: str,
    *,
    scorer: PictureScorer | tuple[Any, Any] | Callable[[list[Image], str], Any],
    decouple: tuple[Any, Any] | Callable[[str], Sequence[str]] | Sequence[str] | None = None,
    fps: float | None = None,
    budget: Keep | None = None,
    grid: tuple[int, int] | None = None,
    exponent: float = 2.0,
    **sampling: Any,
) -> Plan:
    """Rate the frames of a video for a question; the first phase of QuoTA, on its own.

    Parameters
    ----------
    video : path, Clip, or sequence of frames
        A file is read by :func:`vtc.video.read_video`; frames are pictures or uint8 arrays [H, W, 3].
    query : str
        The question with its options.
    scorer : PictureScorer, (model, processor), or callable
        A callable takes the frames and the question about each of them and returns one score >= 0 per frame.
    decouple : (model, processor), callable, sequence of str, or None
        The vision-language model that names the entities, a function from a question to entities, the entities
        themselves, or None: frames are rated for the raw question.
    fps : float or None
        Frames per second of a sequence of frames, for their times.
    budget, grid, exponent
        Where a grid is given, see :meth:`Plan.assign`.
    **sampling
        ``base``, ``extra``, ``cap``, ``count``, ``side``, ``limits`` of :func:`vtc.video.read_video`.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        No frame, empty query, a score that is NaN, infinite or negative (its frame is named), or one of ``budget`` and
        ``grid`` alone.
    """
    if not query.strip():
        raise ValueError("The query is empty: there is nothing to look for in the video.")
    if (budget is None) != (grid is None):
        raise ValueError("Tokens per frame need both budget=... and grid=(rows, columns); one of them is missing.")
    frames, times = _frames(video, fps, sampling)
    entities = _entities(decouple, query)
    question = frame_question(query, entities)
    scores = checked_scores(_rate(scorer, frames, query, entities, question), "scores of the scorer")
    if len(scores) != len(frames):
        raise ValueError(f"The scorer gave {len(scores)} scores for {len(frames)} frames; one per frame is needed.")
    made = Plan(query, entities, question, scores, times, frames)
    return made if budget is None or grid is None else made.assign(budget, grid, exponent)


def _frames(video: Any, fps: float | None, sampling: dict[str, Any]) -> tuple[list[Image], list[float] | None]:
    if isinstance(video, (str, Path)):
        video = read_video(video, **sampling)
    elif sampling:
        raise TypeError(f"{sorted(sampling)} tell how a file is sampled, and the frames were given.")
    if isinstance(video, Clip):
        return video.frames, video.times
    from PIL import Image

    frames = [frame if isinstance(frame, Image.Image) else Image.fromarray(frame) for frame in video]
    if not frames:
        raise ValueError("The video holds no frame.")
    return frames, None if fps is None else frame_times(range(len(frames)), fps)


def _entities(decouple: Any, query: str) -> list[str]:
    if decouple is None:
        return []
    if callable(decouple):
        return list(decouple(query))
    if isinstance(decouple, tuple) and len(decouple) == 2 and not isinstance(decouple[0], str):
        return ask_for_entities(*decouple, query)
    return list(decouple)


def _rate(scorer: Any, frames: list[Image], query: str, entities: list[str], question: str) -> Any:
    if isinstance(scorer, tuple):
        scorer = VLMScorer(*scorer)
    if isinstance(scorer, PictureScorer):
        return scorer.score(frames, query, entities)
    if callable(scorer) and not isinstance(scorer, type):
        return scorer(frames, question)
    raise TypeError(
        f"scorer={scorer!r} is not allowed; pass a pair (model, processor), a scorer of vtc.video that looks at "
        "pictures, or a function scorer(frames, question)."
    )
