"""pi0: a PaliGemma prefix of several cameras, read by an action expert that denoises a chunk of actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.core.prompt import Prompt
from vtc.core.stage import ModelFacts

from .base import EncodeRecord
from .paligemma import PaliGemmaAdapter


class Pi0Adapter(PaliGemmaAdapter):
    """The prefix is the language model here, the expert a second decoder on its cache.

    ``sample_actions`` embeds the prefix itself and runs the prefix once and the expert several times. The expert counts
    the positions of its rows from the full attention mask, so those of the prefix are always kept.
    """

    family: ClassVar[str] = "pi0"
    model_types: ClassVar[tuple[str, ...]] = ("pi0",)
    notes: ClassVar[str] = "robot policy: PaliGemma and a flow-matching expert, several cameras"
    typical: ClassVar[dict[str, Any]] = {"vision_layers": 27, "feature_layer": 26, "decoder_layers": 18}
    since: ClassVar[str] = "5.20.0"
    keeps_positions: ClassVar[bool] = True
    embeds_prompt: ClassVar[tuple[str, str] | None] = ("model", "embed_prefix")
    policy_calls: ClassVar[tuple[str, ...]] = ("sample_actions",)

    def base(self, model: Any) -> Any:
        """PaliGemma without a head."""
        return model.model.vlm

    def decoder(self, model: Any) -> nn.Module:
        """Decoder of the prefix."""
        return model.model.vlm.language_model

    def expert(self, model: Any) -> Any:
        """Decoder of state and actions."""
        return model.model.dit

    def expert_rows(self, model: Any) -> int:
        """Length of the chunk: the suffix without the state, its first row."""
        return int(model.config.chunk_size)

    def token_ids(self, model: Any) -> dict[str, int]:
        """Placeholder id of PaliGemma."""
        return {"image": int(model.config.vlm_config.image_token_id)}

    def side(self, model: Any) -> int:
        """Patches per side of a camera's picture."""
        vision = model.config.vlm_config.vision_config
        return vision.image_size // vision.patch_size

    def facts(self, model: nn.Module) -> ModelFacts:
        """Facts of the prefix, whose actions come from the expert."""
        return ModelFacts(**{**vars(super().facts(model)), "actions": "expert"})

    def scattered(self, record: EncodeRecord, inputs: Mapping[str, Any]) -> EncodeRecord:
        """Rows of the cameras that are there: slots of missing ones are encoded as well."""
        there = inputs.get("pixel_attention_mask")
        if there is None:
            return record
        flags = torch.as_tensor(there).flatten().bool().cpu()
        return record.subset(flags.repeat_interleave(torch.tensor([u.length for u in record.units])))

    def given(self, model: nn.Module, prompt: Prompt) -> tuple[list[EncodeRecord], dict[str, Tensor]]:
        """Cameras that ``embed_prefix`` has noted on the embeddings it returned.

        Raises
        ------
        ValueError
            The embeddings were made elsewhere.
        """
        embeds = prompt.embeds
        if embeds is None:
            return [], {}
        if not hasattr(embeds, "vtc_prompt"):
            raise ValueError(
                "This prefix does not tell where its images are: it was embedded before vtc.patch, or changed since. "
                "Pass what model.model.embed_prefix returns as it is, or run it through `with handle.disabled()`."
            )
        return embeds.vtc_prompt
