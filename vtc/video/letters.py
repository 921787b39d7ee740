"""The probability that a model answers "A": which token that is, and how it is normalised."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Normalise = Literal["vocab", "pair"]


def letter_id(tokenizer: Any, prompt: str, letter: str) -> int:
    """Token with which an answer of one letter begins behind a rendered prompt.

    The prompt is tokenised with and without the letter; the first id that is new counts. Where the prompt ends within
    a line (``"ASSISTANT:"``), models answer with a blank before the letter, and so it is appended.

    Raises
    ------
    ValueError
        The tokenizer has no token for the letter there.
    """
    before = list(tokenizer(prompt, add_special_tokens=False).input_ids)
    open_line = bool(prompt) and not prompt[-1].isspace() and prompt[-1] != ">"
    for text in ([" " + letter] if open_line else []) + [letter]:
        after = list(tokenizer(prompt + text, add_special_tokens=False).input_ids)
        new = next((b for a, b in zip([*before, None], after, strict=False) if a != b), None)
        if new is not None and tokenizer.decode([new]).strip().lower() == letter.lower():
            return int(new)
    raise ValueError(
        f"The tokenizer has no token for an answer {letter!r} behind the prompt's end {prompt[-20:]!r}; rate the "
        "frames in another way, with a text-image scorer or a function of your own."
    )


def letter_probability(logits: Tensor, yes: int, no: int, normalise: Normalise) -> Tensor:
    """Probability of the token ``yes`` at the last position, in float32.

    Parameters
    ----------
    logits : Tensor [B, V]
    yes, no : int
        Ids of "A" and "B".
    normalise : {"vocab", "pair"}
        Softmax over the whole vocabulary (as published), or over the two letters alone.

    Returns
    -------
    Tensor [B], CPU
    """
    logits = logits.detach().float()
    if normalise == "pair":
        return torch.softmax(logits[:, [yes, no]], -1)[:, 0].cpu()
    return torch.softmax(logits, -1)[:, yes].cpu()
