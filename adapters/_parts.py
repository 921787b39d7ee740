"""Where the parts of a model are: configuration, base model, decoder, vision tower, placeholders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from ._paths import first_path, follow

CLASS_TOKEN_NAMES = ("class_embedding", "cls_token")
MODALITIES = ("image", "video")


class Parts:
    """Transformers' conventions as names; a family declares those it has others for.

    Paths are dotted; where there are several, the first that exists counts.
    """

    config_path: ClassVar[str] = "config"
    """Configuration of the vision-language model."""
    base_path: ClassVar[str] = "base_model"
    """Model without its head: embeds, encodes, scatters, calls the decoder."""
    decoder_path: ClassVar[str] = ""
    """Text decoder whose ``layers`` the engine hooks; empty: what ``get_decoder()`` returns."""
    towers: ClassVar[tuple[str, ...]] = ("vision_tower", "visual", "vision_model", "image_tower")
    """Below the base model; ``{modality}`` stands for image or video."""
    blocks: ClassVar[tuple[str, ...]] = (
        "encoder.layers",
        "transformer.layers",
        "blocks",
        "encoder.layer",
        "layers",
        "vision_model.encoder.layers",
    )
    attentions: ClassVar[tuple[str, ...]] = ("self_attn", "attention", "attn")
    feature_fields: ClassVar[tuple[str, ...]] = ("vision_feature_layer", "vision_feature_layers")
    """Fields of the configuration with the encoder layer (or layers) the features come from; without: the last."""
    global_field: ClassVar[str] = ""
    """Field with the encoder blocks that attend to the whole image; empty: all do."""
    placeholders: ClassVar[Mapping[str, tuple[str, ...]]] = {
        m: (f"{m}_token_id", f"{m}_token_index") for m in MODALITIES
    }
    """Fields with the ids of the placeholders."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model sees."""
        return MODALITIES

    def config(self, model: nn.Module) -> Any:
        """Configuration of the vision-language model."""
        return follow(model, self.config_path)

    def base(self, model: nn.Module) -> Any:
        """Model without its head."""
        return follow(model, self.base_path)

    def decoder(self, model: Any) -> nn.Module:
        """Text decoder."""
        return follow(model, self.decoder_path) if self.decoder_path else model.get_decoder()

    def layers(self, model: nn.Module) -> nn.ModuleList:
        """Decoder layers."""
        return self.decoder(model).layers  # type: ignore[return-value]

    def tower(self, model: nn.Module, modality: str = "image") -> Any:
        """Vision tower, None when none was found."""
        return first_path(self.base(model), tuple(path.format(modality=modality) for path in self.towers))

    def tower_blocks(self, model: nn.Module, modality: str = "image") -> nn.ModuleList:
        """Blocks of the vision tower; empty when none were found."""
        tower = self.tower(model, modality)
        found = None if tower is None else first_path(tower, self.blocks)
        return found if isinstance(found, nn.ModuleList) else nn.ModuleList()

    def attention(self, block: nn.Module) -> nn.Module | None:
        """Attention module of a block: the one that fetches its kernel by ``config``."""
        found = first_path(block, self.attentions)
        inner = first_path(found, ("attention", "self")) if found is not None and not hasattr(found, "config") else None
        return inner if inner is not None else found

    def token_ids(self, model: nn.Module) -> dict[str, int]:
        """Placeholder ids by modality."""
        config, ids = self.config(model), {}
        for modality in self.modalities:
            found = first_path(config, self.placeholders.get(modality, ()))
            if found is not None:
                ids[modality] = int(found)
        return ids

    def has_class_token(self, model: nn.Module) -> bool:
        """True when the tower prepends a [CLS] token."""
        tower = self.tower(model)
        names = [n.rsplit(".", 1)[-1] for n, _ in tower.named_parameters()] if tower is not None else []
        return any(n in CLASS_TOKEN_NAMES for n in names)

    def feature_layer(self, model: nn.Module, depth: int) -> int:
        """0-based block whose output becomes the features."""
        chosen = first_path(self.config(model), self.feature_fields)
        if chosen is None:
            return depth - 1
        values = [chosen] if isinstance(chosen, int) else list(chosen)
        return max(depth + v if v < 0 else v - 1 for v in values)

    def global_layers(self, model: nn.Module, depth: int) -> tuple[int, ...]:
        """Blocks that attend to the whole image: windowed ones cannot rank windows against each other."""
        return tuple(follow(self.config(model), self.global_field) if self.global_field else range(depth))

    def missing(self, model: Any) -> list[str]:
        """What a model lacks to be patched with these names."""
        if not isinstance(model, nn.Module) or not hasattr(model, "config"):
            return ["transformers config"]
        base, lacks = self.base(model), []
        if not any(hasattr(base, f"get_{m}_features") for m in self.modalities):
            lacks.append(f"get_image_features on its base model (`{self.base_path}`)")
        try:
            found = getattr(self.decoder(model), "layers", None)
        except (AttributeError, NotImplementedError):
            found = None
        if found is None:
            lacks.append(f"decoder with `layers` behind {self.decoder_path or 'get_decoder()'}")
        if not self.token_ids(model):
            names = " or ".join(dict.fromkeys(name for m in self.modalities for name in self.placeholders.get(m, ())))
            lacks.append(f"{names} in its {self.config_path}")
        return lacks
