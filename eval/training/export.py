"""From a checkpoint to a folder for ``from_pretrained``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .specs import SPECS


@torch.no_grad()
def load_masters(trainee: torch.nn.Module, checkpoint: Path) -> dict[str, Any]:
    """Load the float32 weights of a checkpoint; return the rest of it."""
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    weights = state.pop("weights")["masters"]
    for mine, saved in zip((p for p in trainee.parameters() if p.requires_grad), weights, strict=True):
        mine.copy_(saved)
    return state


def export(name: str, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Write model (bfloat16, without auxiliary heads), processor and tokenizer.

    Parameters
    ----------
    name : str
        A key of :data:`vtc.eval.training.specs.SPECS`.
    checkpoint : Path
        Written by :meth:`vtc.eval.training.loop.Trainer.save`.
    folder : Path

    Returns
    -------
    dict
        Steps, samples and seconds of the training.
    """
    spec = SPECS[name]
    model = spec.model()
    state = load_masters(spec.trainee(model, 1), checkpoint)
    processor = spec.processor()
    settings = model.generation_config
    settings.pad_token_id = processor.tokenizer.pad_token_id
    settings.eos_token_id = processor.tokenizer.eos_token_id
    settings.bos_token_id = processor.tokenizer.bos_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    return {"step": state["step"], "samples": state["samples"], "seconds": round(state["elapsed"], 1)}
