"""Gemma 4: patches with positions, average pooling, inputs per decoder layer, shared keys and values."""

from __future__ import annotations

from torch import nn

from vtc.compat import GEMMA4

from ._positioned import Positioned
from .base import Adapter

REASON = "later layers reuse the keys of earlier ones or take per-token inputs of their own"


class Gemma4Adapter(Adapter):
    """Images of any size, padded to one number of patches; frames of a video are partitions."""

    family = "gemma4"
    model_types = ("gemma4",)
    notes = "images and video; small models before the language model only"
    since = GEMMA4
    typical = {"no_cuts": REASON}
    prepared_masks = True
    image = Positioned()
    video = Positioned(counted_by="num_frames_per_video")

    def no_cuts(self, model: nn.Module) -> str:
        """Small Gemma 4 models reuse keys of early layers and feed per-token inputs to every layer."""
        text = self.config(model).get_text_config()
        return REASON if text.num_kv_shared_layers or text.hidden_size_per_layer_input else ""
