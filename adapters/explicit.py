"""Any causal decoder whose images stand at places the caller names: OpenVLA and other wrappers around a language model.

Such a policy has a vision tower and a projector of its own and hands embeddings to a language model of transformers::

    [BOS][image tokens][instruction]                    action tokens are generated one by one (OpenVLA)
    [BOS][image tokens][instruction][placeholders]      one pass gives the whole chunk (OpenVLA-OFT)

Patch the language model, and say where the image tokens are::

    handle = vtc.patch(policy.language_model, "vla-pruner", keep=0.5, images=vtc.Columns(1, 256))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtc.core.columns import Columns
from vtc.core.layout import Unit
from vtc.core.prompt import Prompt
from vtc.core.words import kind, shown

from ._plain import square
from ._policy import PolicyAdapter
from .base import Adapter, EncodeRecord


@dataclass(frozen=True)
class PlacedImages(PolicyAdapter):
    """Images of a prompt of embeddings that stand in one run of columns.

    A forward brings images when it hands ``inputs_embeds`` to an empty cache. Token ids stand for text alone, and a
    continued cache for decode steps: neither is pruned.
    """

    columns: Columns = Columns(0, 1)

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
        start, total, actions = self.columns.start, self.columns.total, self.columns.actions
        shortest = int(real.sum(1).min())
        if shortest < start + total + actions:
            also = f" and {actions} action placeholders" if actions else ""
            raise ValueError(
                f"A prompt of {shortest} tokens cannot hold {total} image tokens from column {start} on{also}: pass "
                "images=vtc.Columns(start, length, actions) of this policy to vtc.patch, or run text through "
                "`with handle.disabled()`."
            )
        place = real.long().cumsum(1) - 1
        columns = real & (place >= start) & (place < start + total)
        units = [Unit("image", n, grid=square(n) or (1, 1, n)) for n in self.columns.lengths]
        return [EncodeRecord("image", units * batch)], {"image": columns}


class ExplicitAdapter(Adapter):
    """The image tokens of every prompt stand in one run of columns.

    Parameters
    ----------
    columns : Columns

    Notes
    -----
    There is no vision tower to read, it belongs to the policy around the model, so methods that need the attention of
    the encoder refuse. In a finished 4-D mask a row of padding sees nothing, not even itself.
    """

    family = "explicit"
    notes = "decoders that are told where their image tokens are"
    prepared_masks = True
    towers = ()
    placeholders = {}
    video = None

    def __init__(self, columns: Columns) -> None:
        self.policy = PlacedImages(action_length=columns.actions, columns=columns)

    def missing(self, model: Any) -> list[str]:
        """Layers of a decoder are all it takes: images come as embeddings."""
        decoder = model.get_decoder() if hasattr(model, "get_decoder") and hasattr(model, "config") else None
        return [] if hasattr(decoder, "layers") else ["decoder with `layers` behind get_decoder()"]


def explicit_adapter(model: Any, images: object) -> Adapter:
    """Adapter for a language model and the place of its images.

    Raises
    ------
    TypeError
        The model is no decoder of transformers, or ``images`` are no :class:`~vtc.core.columns.Columns`.
    """
    if not isinstance(images, Columns):
        raise TypeError(
            f"images={shown(images)} is {kind(images)}; pass vtc.Columns(start, length), the first column of the "
            "image tokens and how many there are."
        )
    adapter = ExplicitAdapter(images)
    if adapter.missing(model):
        inner = getattr(model, "language_model", None)
        hint = (
            "" if inner is None else f" Pass the {type(inner).__name__} inside: vtc.patch(policy.language_model, ...)."
        )
        raise TypeError(f"{type(model).__name__} is no decoder of transformers with layers behind get_decoder().{hint}")
    return adapter
