"""Any family that follows transformers' conventions: ``get_image_features``, ``get_decoder``, ``image_token_id``."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from vtc.core.stage import ModelFacts

from .base import Adapter


class GenericAdapter(Adapter):
    """Serves unlisted families; methods that read encoder attention work when patches and feature rows correspond."""

    family: ClassVar[str] = "generic"
    notes: ClassVar[str] = "unlisted families that follow transformers' conventions"

    def missing(self, model: Any) -> list[str]:
        """Conventions the model lacks."""
        lacks = []
        if not isinstance(model, nn.Module) or not hasattr(model, "config"):
            return ["transformers config"]
        base = getattr(model, "base_model", model)
        if not any(hasattr(base, f"get_{m}_features") for m in self.modalities):
            lacks.append("get_image_features on its base model")
        try:
            get: Any = getattr(model, "get_decoder", None)
            decoder = None if get is None else get()
            layers = getattr(decoder, "layers", None)
        except (AttributeError, NotImplementedError):
            layers = None
        if layers is None:
            lacks.append("decoder with `layers` behind get_decoder()")
        if not self.token_ids(model):
            lacks.append("image_token_id in its config")
        return lacks

    def facts(self, model: Any) -> ModelFacts:
        """Facts with the M-RoPE flag read from the rope parameters."""
        config: Any = model.config
        text = config.get_text_config()
        rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
        sectioned = "mrope_section" in rope if isinstance(rope, dict) else False
        base = super().facts(model)
        return ModelFacts(**{**vars(base), "multimodal_rope": sectioned, "keeps_positions": sectioned})
