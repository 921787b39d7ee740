"""Rate frames by asking a vision-language model about each of them (QuoTA, arXiv 2503.08689, scoring step)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..chat import build_inputs, prompt_text
from ..core.fields import fit
from .entities import frame_question
from .letters import Normalise, letter_id, letter_probability
from .scorers import ClipScorer, Decouple, PictureScorer

if TYPE_CHECKING:
    from PIL.Image import Image

Wording = Callable[[str, Sequence[str]], str]


class AskingScorer(ClipScorer):
    """What scorers share that ask a model a question and read the first word of its answer.

    Parameters
    ----------
    normalise, batch, query, decouple, wording, answers
        See :class:`VLMScorer`.
    """

    def __init__(
        self,
        normalise: Normalise = "vocab",
        batch: int = 64,
        query: str | Sequence[str] | None = None,
        decouple: Decouple = "model",
        wording: Wording = frame_question,
        answers: tuple[str, str] = ("A", "B"),
    ) -> None:
        super().__init__(query, decouple)
        fit("normalise", normalise, Normalise)
        check_batch(batch)
        self.normalise, self.batch = normalise, batch
        self.wording, self.answers = wording, answers


class VLMScorer(AskingScorer, PictureScorer):
    """Probability that another vision-language model answers "A. yes" about a frame.

    Parameters
    ----------
    model, processor
        Any image-text-to-text model and its processor; the paper takes Qwen2-VL-2B-Instruct with at most 1280 tokens
        per frame, which is a setting of its processor.
    normalise : {"vocab", "pair"}
        Softmax over the whole vocabulary (as published), or over "A" and "B" alone, for models that spend most of
        their probability on other tokens.
    batch : int
        Frames per forward.
    query, decouple
        See :class:`ClipScorer`.
    wording : callable
        ``wording(query, entities)`` is the question about a frame; by default ours,
        :func:`vtc.video.entities.frame_question`.
    answers : (str, str)
        First words of a positive and of a negative answer to it.

    Notes
    -----
    One picture per conversation under the model's own chat template, padded on the left, one forward and no
    generation; softmax in float32, since 16-bit probabilities come in coarse steps. No threshold, no calibration. The
    wording of the two questions is ours.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        normalise: Normalise = "vocab",
        batch: int = 64,
        query: str | Sequence[str] | None = None,
        decouple: Decouple = "model",
        wording: Wording = frame_question,
        answers: tuple[str, str] = ("A", "B"),
    ) -> None:
        super().__init__(normalise, batch, query, decouple, wording, answers)
        self.model, self.processor = model, processor

    @torch.no_grad()
    def score(self, frames: Sequence[Image], query: str, entities: Sequence[str] = ()) -> Tensor:
        """Scores [T] of pictures."""
        question = self.wording(query, entities)
        prompt = prompt_text(self.processor, question)
        yes, no = (letter_id(self.processor.tokenizer, prompt, answer) for answer in self.answers)
        scores = []
        for start in range(0, len(frames), self.batch):
            rows = [([frame], question) for frame in frames[start : start + self.batch]]
            inputs = build_inputs(self.processor, rows, self.model.device)
            scores.append(letter_probability(last_logits(self.model, inputs), yes, no, self.normalise))
        return torch.cat(scores)


def last_logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Logits [B, V] at the last position, where with padding on the left the last real token stands."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return model(**inputs, logits_to_keep=1).logits[:, -1]
    return model(**inputs).logits[:, -1]


def check_batch(batch: int) -> None:
    """Raise a ValueError unless ``batch`` is a number of frames."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch={batch!r} is not allowed; pass the number of frames per forward, at least 1.")
