"""Any family that follows transformers' conventions: ``get_image_features``, ``get_decoder``, ``image_token_id``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vtc.core.stage import ModelFacts

from .base import Adapter


class GenericAdapter(Adapter):
    """Serves unlisted families; methods that read encoder attention work when patches and feature rows correspond."""

    notes = "unlisted families that follow transformers' conventions"

    def facts(self, model: Any) -> ModelFacts:
        """Facts with the M-RoPE flag read from the rope parameters."""
        text = model.config.get_text_config()
        rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
        sectioned = "mrope_section" in rope if isinstance(rope, dict) else False
        return replace(super().facts(model), multimodal_rope=sectioned, keeps_positions=sectioned)
