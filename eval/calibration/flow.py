"""Visual information flow: how little pruning turns what the model is about to say (VFlowOpt's objective)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import vtc
from vtc.engine.installed import ATTRIBUTE
from vtc.methods import Method

Sample = Mapping[str, Tensor]


@torch.no_grad()
def final_state(model: nn.Module, inputs: Sample) -> Tensor:
    """Final hidden state, behind the last norm, of the last prompt token of a one-row batch: ``[D]`` fp32."""
    base: Any = model.base_model
    hidden = base(**inputs, use_cache=False).last_hidden_state
    mask = inputs.get("attention_mask")
    last = hidden.shape[1] - 1 if mask is None else int(mask[0].nonzero()[-1])
    return hidden[0, last].float()


class Flow:
    """Cosines between the final states with and without pruning; the unpruned pass runs once.

    Parameters
    ----------
    model : nn.Module
        Not patched.
    samples : sequence of dict
        Inputs of one prompt each, as the processor makes them.
    processor : optional
        Handed on to :func:`vtc.patch`.

    Raises
    ------
    ValueError
        The model is patched.
    """

    def __init__(self, model: nn.Module, samples: Sequence[Sample], processor: Any = None) -> None:
        if ATTRIBUTE in model.__dict__:
            raise ValueError("The model is patched, and the reference must be unpruned: call vtc.unpatch(model) first.")
        self.model, self.samples, self.processor = model, list(samples), processor
        self.reference = [final_state(model, s) for s in self.samples]

    def cosines(self, method: Method) -> list[float]:
        """One cosine per sample; 0 where a state is not finite."""
        found = []
        with vtc.patched(self.model, method, processor=self.processor):
            for inputs, before in zip(self.samples, self.reference, strict=True):
                value = float(torch.cosine_similarity(before, final_state(self.model, inputs), dim=0))
                found.append(value if math.isfinite(value) else 0.0)
        return found

    def mean(self, method: Method) -> float:
        """Mean cosine over the samples."""
        return sum(self.cosines(method)) / len(self.samples)
