"""Answering the questions of a test set, in batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vtc.chat import build_inputs, decode, new_tokens

from .questions import Item

FRAME_RATE = 2.0
"""Frames per second that videos are said to have: one second per temporal patch of two frames."""
LONGEST = 6
"""Tokens an answer may have."""


@dataclass(frozen=True)
class Outcome:
    """One answered question: text, whether it is exact, and what it has cost.

    Attributes
    ----------
    before, after : int
        Visual tokens of its prompt, and those left behind the last cut.
    mean : float
        Visual tokens averaged over the decoder's layers.
    flops_before, flops_after : float
        FLOPs of the decoder's prefill without and with the cuts: the question's part of its batch.
    """

    family: str
    text: str
    exact: bool
    before: int = 1
    after: int = 1
    mean: float = 1.0
    flops_before: float = 1.0
    flops_after: float = 1.0


def normalise(text: str) -> str:
    """Bring an answer into the compared form: lower case, no final stop, digits joined (``"4 2"`` is 42)."""
    text = " ".join(text.lower().split()).rstrip(".! ")
    return re.sub(r"(?<=\d) (?=\d)", "", text)


def is_exact(answer: str, known: str) -> bool:
    """Whether an answer equals the known one after :func:`normalise`."""
    return normalise(answer) == normalise(known)


def blanked(item: Item) -> Item:
    """The same question about plain grey: what can be answered without looking."""
    frames = tuple(Image.new("RGB", frame.size, (128, 128, 128)) for frame in item.frames)
    return Item(item.family, item.question, item.answer, frames, item.seed, item.layout)


def video_inputs(processor: Any, items: Sequence[Item], device: Any) -> dict[str, Any]:
    """Inputs of a batch of questions about videos, one each."""
    texts = []
    for item in items:
        content = [{"type": "video"}, {"type": "text", "text": item.question}]
        chat = [{"role": "user", "content": content}]
        texts.append(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    facts = [[{"fps": FRAME_RATE, "total_num_frames": len(item.frames)}] for item in items]
    videos = [list(item.frames) for item in items]
    return dict(
        processor(
            text=texts, videos=videos, video_metadata=facts, padding=True, padding_side="left", return_tensors="pt"
        ).to(device)
    )


def _answer_batch(model: Any, processor: Any, handle: Any, items: Sequence[Item]) -> list[Outcome]:
    if items[0].is_video:
        inputs = video_inputs(processor, items, model.device)
    else:
        inputs = build_inputs(processor, [(list(item.frames), item.question) for item in items], model.device)
    answers = decode(processor, new_tokens(model, inputs, LONGEST))
    outcomes = [
        Outcome(item.family, answer, is_exact(answer, item.answer)) for item, answer in zip(items, answers, strict=True)
    ]
    return outcomes if handle is None else [_priced(one, row, handle) for row, one in enumerate(outcomes)]


def _priced(outcome: Outcome, row: int, handle: Any) -> Outcome:
    """An outcome with what its row of the last call has cost."""
    flops, depth, rows = handle.report().data["flops"], handle.facts.decoder_layers, handle.last.rows
    images = [image for image in handle.last.images if image.row == row]
    return replace(
        outcome,
        before=sum(image.before for image in images),
        after=sum(image.after for image in images),
        mean=sum(image.mean(depth) for image in images),
        flops_before=flops["before"] / rows,
        flops_after=flops["after"] / rows,
    )


def answer_items(model: Any, processor: Any, items: Sequence[Item], batch: int, handle: Any = None) -> list[Outcome]:
    """Greedy answers to all items, in their order.

    Parameters
    ----------
    model, processor
        A model, patched or not, and its processor.
    items : sequence of Item
    batch : int
        Questions per call of ``generate``; pictures and videos are not mixed.
    handle : vtc handle, optional
        Of the patched model, for the counts of tokens.
    """
    outcomes: dict[int, Outcome] = {}
    for video in (False, True):
        places = [i for i, item in enumerate(items) if item.is_video == video]
        for start in range(0, len(places), batch):
            chosen = places[start : start + batch]
            answered = _answer_batch(model, processor, handle, [items[i] for i in chosen])
            outcomes |= dict(zip(chosen, answered, strict=True))
    return [outcomes[i] for i in range(len(items))]
