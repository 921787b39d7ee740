"""Any causal decoder whose images stand at places the caller names: OpenVLA and other wrappers around a language model.

Such a policy has a vision tower and a projector of its own and hands embeddings to a language model of transformers::

    [BOS][image tokens][instruction]                    action tokens are generated one by one (OpenVLA)
    [BOS][image tokens][instruction][placeholders]      one pass gives the whole chunk (OpenVLA-OFT, ``action_length``)

Patch the language model, and say where the image tokens are::

    handle = vtc.patch(policy.language_model, "vla-pruner", keep=0.5, image_start=1, image_length=256)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.core.layout import Unit
from vtc.core.prompt import Prompt
from vtc.core.stage import ModelFacts

from .base import Adapter, EncodeRecord, square


class ExplicitAdapter(Adapter):
    """The image tokens of every prompt stand in one run of columns.

    Parameters
    ----------
    start : int
        Column of the first image token, counted from the first real token of the row: left padding does not count.
    lengths : sequence of int
        Tokens of each image (camera), one after another; square numbers are taken for square lattices.
    action_length : int
        Placeholders at the end of the prompt that one pass turns into a chunk of actions; 0: actions are generated.

    Notes
    -----
    A forward brings images when it hands ``inputs_embeds`` to an empty cache. Token ids stand for text alone, and a
    continued cache for decode steps: neither is pruned. There is no vision tower to read, so methods that need the
    attention of the encoder refuse. In a finished 4-D mask a row of padding sees nothing, not even itself.
    """

    family: ClassVar[str] = "explicit"
    notes: ClassVar[str] = "decoders that are told where their image tokens are"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    prepared_masks: ClassVar[bool] = True

    def __init__(self, start: int, lengths: Sequence[int], action_length: int = 0) -> None:
        self.start, self.lengths_given, self.action_length = start, tuple(lengths), action_length

    def tower(self, model: nn.Module, modality: str = "image") -> Any:
        """None: the tower belongs to the policy around the model."""
        return None

    def token_ids(self, model: nn.Module) -> dict[str, int]:
        """None: images come as embeddings."""
        return {}

    def facts(self, model: nn.Module) -> ModelFacts:
        """Facts of a decoder alone."""
        facts = vars(super().facts(model))
        return ModelFacts(**{**facts, "actions": "placeholders" if self.action_length else "generated"})

    def given(self, model: nn.Module, prompt: Prompt) -> tuple[list[EncodeRecord], dict[str, Tensor]]:
        """Place the images of a prompt of embeddings.

        Raises
        ------
        ValueError
            A row is too short for them.
        """
        embeds = prompt.embeds
        if embeds is None or prompt.cached > 0:
            return [], {}
        batch, length = embeds.shape[:2]
        real = torch.ones(batch, length, dtype=torch.bool) if prompt.real is None else prompt.real.expand(batch, -1)
        real = real.to(embeds.device)
        total = sum(self.lengths_given)
        least = self.start + total + self.action_length
        shortest = int(real.sum(1).min())
        if shortest < least:
            actions = f" and {self.action_length} action placeholders" if self.action_length else ""
            raise ValueError(
                f"A prompt of {shortest} tokens cannot hold {total} image tokens from column {self.start} on{actions}: "
                "pass the image_start and image_length of this policy to vtc.patch, or run text through "
                "`with handle.disabled()`."
            )
        place = real.long().cumsum(1) - 1
        columns = real & (place >= self.start) & (place < self.start + total)
        units = [Unit("image", n, grid=square(n) or (1, 1, n)) for n in self.lengths_given]
        return [EncodeRecord("image", units * batch)], {"image": columns}


def explicit_adapter(model: Any, start: int | None, length: int | Sequence[int] | None, actions: int) -> Adapter:
    """Adapter for a language model and the place of its images.

    Raises
    ------
    TypeError
        The model is no decoder of transformers, or a number is none.
    ValueError
        A number out of range, or one of the two is missing.
    """
    if start is None or length is None:
        raise ValueError(
            "image_start and image_length belong together: the first column of the image tokens and how many there are."
        )
    lengths = list(length) if isinstance(length, Sequence) else [length]
    for name, value, least in [
        ("image_start", start, 0),
        ("action_length", actions, 0),
        *(("image_length", n, 1) for n in lengths),
    ]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}; pass a number of tokens.")
        if value < least:
            raise ValueError(f"{name}={value} is not allowed: pass a number >= {least}.")
    if not lengths:
        raise ValueError("image_length=() is not allowed: pass the tokens of at least one image.")
    decoder = model.get_decoder() if hasattr(model, "get_decoder") and hasattr(model, "config") else None
    if not hasattr(decoder, "layers"):
        inner = getattr(model, "language_model", None)
        hint = (
            "" if inner is None else f" Pass the {type(inner).__name__} inside: vtc.patch(policy.language_model, ...)."
        )
        raise TypeError(f"{type(model).__name__} is no decoder of transformers with layers behind get_decoder().{hint}")
    return ExplicitAdapter(start, lengths, actions)
