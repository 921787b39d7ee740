"""Let the patched model rate its own frames: one frame per prompt, at the size it sees in the video."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import FeatureCall

from .clips import ClipPixels
from .letters import letter_id, letter_probability
from .scorers import own_processor
from .vlm import AskingScorer, last_logits


class SelfScorer(AskingScorer):
    """Probability that the patched model itself, plain and on one frame at a time, answers "A. yes".

    The pixels of the call are used as they are: each frame becomes a video (or image) of its own, so it has the number
    of tokens it has in the native video. While it runs vtc is switched off on the model, and nothing of it is left on
    the model afterwards.

    Parameters
    ----------
    normalise, batch, query, decouple, wording, answers
        See :class:`~vtc.video.VLMScorer`.

    Notes
    -----
    The vision tower runs twice over every frame, here and in the call that is rated for. Needs the model's processor:
    ``vtc.patch(..., processor=processor)``.
    """

    def rate(self, handle: Any, clip: ClipPixels, query: str, entities: list[str]) -> Tensor:
        """Scores [T] of the frames of one clip."""
        tokenizer = own_processor(handle).tokenizer
        prompt = frame_prompt(handle, clip.modality, self.wording(query, entities))
        yes, no = (letter_id(tokenizer, prompt, answer) for answer in self.answers)
        ids = list(tokenizer(prompt).input_ids)
        lengths = self._lengths(handle, clip)
        scores = []
        for start in range(0, clip.frames, self.batch):
            stop = min(start + self.batch, clip.frames)
            inputs = _inputs(handle, clip, ids, lengths, start, stop)
            scores.append(letter_probability(last_logits(handle.model, inputs), yes, no, self.normalise))
        return torch.cat(scores)

    def _lengths(self, handle: Any, clip: ClipPixels) -> list[int]:
        """Feature rows of every frame; the frames of one video have equally many, so one of them tells."""
        alike = clip.modality == "video"
        found: list[int] = []
        for start in range(0, 1 if alike else clip.frames, self.batch):
            chosen = clip.take(start, 1 if alike else min(start + self.batch, clip.frames))
            features = getattr(handle.adapter.base(handle.model), f"get_{clip.modality}_features")
            output = features(**chosen, return_dict=True)
            found += handle.adapter.lengths(handle.model, FeatureCall(clip.modality, chosen, output))
        return found * clip.frames if alike else found


def frame_prompt(handle: Any, modality: str, question: str) -> str:
    """Chat prompt with one image or video and a question.

    Raises
    ------
    ValueError
        The chat template writes no placeholder for it.
    """
    processor = own_processor(handle)
    tokenizer = processor.tokenizer
    token = tokenizer.convert_ids_to_tokens(handle.adapter.token_ids(handle.model)[modality])
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    if template is None:
        return f"{token}\n{question}"
    content = [{"type": modality}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    text = str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    if text.count(token) != 1:
        raise ValueError(
            f"The chat template writes {text.count(token)} times {token!r} for one {modality}, so the model cannot be "
            "asked about single frames; use vtc.video.VLMScorer with another model, or pass frame_scores=... ."
        )
    return text


def _inputs(
    handle: Any, clip: ClipPixels, ids: list[int], lengths: list[int], start: int, stop: int
) -> dict[str, Tensor]:
    """Arguments of the model for the frames ``start .. stop - 1``, one per row, padded on the left."""
    model, token = handle.model, handle.adapter.token_ids(handle.model)[clip.modality]
    place = ids.index(token)
    rows = [ids[:place] + [token] * n + ids[place + 1 :] for n in lengths[start:stop]]
    width = max(map(len, rows))
    real = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    filled = [[ids[-1]] * (width - len(row)) + row for row in rows]
    inputs = {"input_ids": torch.tensor(filled), "attention_mask": torch.tensor(real)}
    if "mm_token_type_ids" in inspect.signature(handle.adapter.base(model).forward).parameters:
        kinds = (inputs["input_ids"] == token).long() * (2 if clip.modality == "video" else 1)
        inputs["mm_token_type_ids"] = kinds * inputs["attention_mask"]
    if min(map(len, rows)) < width and not handle.adapter.multimodal_rope:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    device = next(model.parameters()).device
    return {key: value.to(device) for key, value in {**inputs, **clip.take(start, stop)}.items()}
