"""Rate frames by a text-image model: CLIP, SigLIP and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .scorers import Decouple, PictureScorer
from .vlm import check_batch

if TYPE_CHECKING:
    from PIL.Image import Image


class ContrastiveScorer(PictureScorer):
    """How likely a frame shows one of the entities, by a model that compares pictures with sentences.

    SigLIP: ``sigmoid(logit)`` of "a photo containing {entity}". CLIP: softmax of that sentence against "a photo". The
    most likely entity counts; without entities the question takes their place. Raw cosines are of no use here: they
    hardly differ between frames, and squaring them changes nothing about that.

    Parameters
    ----------
    model
        With ``logits_per_image`` in its output; a ``logit_bias`` marks the SigLIP kind.
    processor
        The model's processor; sentences are cut to the length its tokenizer allows.
    batch : int
        Frames per forward.
    query, decouple
        See :class:`ClipScorer`.

    Notes
    -----
    Not part of the paper, whose scorer is a vision-language model.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch: int = 64,
        query: str | Sequence[str] | None = None,
        decouple: Decouple = "model",
    ) -> None:
        super().__init__(query, decouple)
        check_batch(batch)
        self.model, self.processor, self.batch = model, processor, batch
        self.sigmoid = getattr(model, "logit_bias", None) is not None

    @torch.no_grad()
    def score(self, frames: Sequence[Image], query: str, entities: Sequence[str] = ()) -> Tensor:
        """Scores [T] of pictures."""
        texts = [f"a photo containing {entity}" for entity in entities] or [query]
        sentences = texts if self.sigmoid else [*texts, "a photo"]
        scores = []
        for start in range(0, len(frames), self.batch):
            inputs = self.processor(
                text=sentences,
                images=list(frames[start : start + self.batch]),
                # SigLIP was trained on sentences filled up to one length
                padding="max_length" if self.sigmoid else True,
                truncation=True,
                return_tensors="pt",
            )
            logits = self.model(**inputs.to(self.model.device)).logits_per_image.float()
            likely = logits.sigmoid() if self.sigmoid else (logits[:, :-1] - logits[:, -1:]).sigmoid()
            scores.append(likely.amax(1).cpu())
        return torch.cat(scores)
