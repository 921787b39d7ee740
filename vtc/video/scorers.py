"""Rate the frames of a call by the pictures behind its pixels: what all scorers that look at pictures share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..core.frame_scores import FrameScorer, checked_scores
from .clips import ClipPixels, find_clips
from .entities import decouple, frame_question
from .query import find_queries

if TYPE_CHECKING:
    from PIL.Image import Image

Decouple = Literal["model"] | Callable[[str], Sequence[str]] | None
"""Who names the entities of a query: the patched model itself, a function, or nobody."""


class ClipScorer(ABC):
    """Base of the scorers here: finds clips and questions of a call, and has every clip rated.

    Parameters
    ----------
    query : str or sequence of str or None
        Question of all rows or of each one; None: see :func:`vtc.video.find_queries`.
    decouple : "model", callable or None
        ``"model"``: the patched model is asked first which things the question depends on (text only, as published).
        A callable takes the question and returns the entities. None: frames are rated for the raw question.
    """

    def __init__(self, query: str | Sequence[str] | None = None, decouple: Decouple = "model") -> None:
        if decouple not in ("model", None) and not callable(decouple):
            raise ValueError(
                f"decouple={decouple!r} is not allowed; pass 'model', None, or a function from a question to a list of "
                "entities."
            )
        self.query, self.decouple = query, decouple

    @abstractmethod
    def rate(self, handle: Any, clip: ClipPixels, query: str, entities: list[str]) -> Tensor:
        """Scores [T] in [0, 1] of the frames of one clip."""

    @torch.no_grad()
    def __call__(self, handle: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Rate every clip of a call; see :class:`FrameScorer`.

        Raises
        ------
        ValueError
            No question, pixels in an unknown layout, or a score that is NaN (its frame is named).
        """
        with undisturbed(handle):
            queries, clips = find_queries(handle, inputs, self.query), find_clips(handle, inputs)
            known: dict[str, list[str]] = {}
            scores = []
            for clip in clips:
                query = queries[clip.row]
                if query not in known:
                    known[query] = self.entities(handle, query)
                scores.append(self.rate(handle, clip, query, known[query]))
        return [checked_scores(s, f"scores of clip {i}").float() for i, s in enumerate(scores)]

    def entities(self, handle: Any, query: str) -> list[str]:
        """What must be seen to answer ``query``; empty: rate frames for the question itself."""
        if self.decouple is None:
            return []
        if callable(self.decouple):
            return list(self.decouple(query))
        return decouple(handle.model, own_processor(handle), query)


class PictureScorer(ClipScorer):
    """A scorer that looks at pictures; those of a call are recovered from its pixels."""

    @abstractmethod
    def score(self, frames: Sequence[Image], query: str, entities: Sequence[str] = ()) -> Tensor:
        """Scores [T] in [0, 1] of pictures, for a question or, where there are any, for the entities in it."""

    def rate(self, handle: Any, clip: ClipPixels, query: str, entities: list[str]) -> Tensor:
        """Best score among the pictures that a frame of the clip joins."""
        processor = own_processor(handle)
        units = [clip.pictures(handle, i, processor) for i in range(clip.frames)]
        scores = self.score([picture for unit in units for picture in unit], query, entities)
        return torch.stack([part.max() for part in scores.split([len(unit) for unit in units])])


def own_processor(handle: Any) -> Any:
    """Processor that was passed to :func:`vtc.patch`.

    Raises
    ------
    ValueError
        None was.
    """
    found = next((m.processor for m in handle.methods if m.processor is not None), None)
    if found is None:
        raise ValueError(
            "Rating frames needs the processor of the patched model: vtc.patch(model, ..., processor=processor)."
        )
    return found


@contextmanager
def undisturbed(handle: Any) -> Iterator[None]:
    """Run the patched model plainly inside, in eval mode, and leave it exactly as it was.

    vtc is switched off, a forward that is under way is hidden from the hooks, and every public attribute of a module
    that the inner calls add or change (``rope_deltas`` of Qwen's, ``training``) is put back.
    """
    # transformers marks hooks it has installed for good by private attributes, which must stay
    before = [(module, _public(module)) for module in handle.model.modules()]
    try:
        with handle.disabled():
            handle.model.eval()
            yield
    finally:
        for module, attributes in before:
            for name in _public(module).keys() - attributes.keys():
                del module.__dict__[name]
            module.__dict__.update(attributes)


def _public(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if not name.startswith("_")}


def as_scorer(scorer: Any) -> FrameScorer:
    """Make a scorer of what users pass as ``scorer=``.

    Parameters
    ----------
    scorer : "self", (model, processor), or callable
        The patched model itself, another vision-language model, or a function like :class:`FrameScorer`.

    Raises
    ------
    TypeError
        Anything else.
    """
    from .itself import SelfScorer
    from .vlm import VLMScorer

    if isinstance(scorer, str) and scorer == "self":
        return SelfScorer()
    if isinstance(scorer, tuple) and len(scorer) == 2:
        return VLMScorer(*scorer)
    if callable(scorer):
        return scorer
    raise TypeError(
        f"scorer={scorer!r} is not allowed; pass 'self', a pair (model, processor), a scorer of vtc.video, or a "
        "function scorer(handle, inputs) that returns one tensor of scores per clip."
    )


__all__ = ["ClipScorer", "FrameScorer", "PictureScorer", "as_scorer", "frame_question", "own_processor", "undisturbed"]
