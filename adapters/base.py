"""What the engine must know about a family: names, facts, a geometry per modality, and how it acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from vtc.core.layout import Unit
from vtc.core.stage import ModelFacts, Need

from ._parts import MODALITIES, Parts
from ._paths import follow
from ._plain import Plain
from ._policy import PolicyAdapter
from ._records import REMEDY
from .geometry import Encoder, EncodeRecord, FeatureCall, FrameSeam, Geometry


class Adapter(Parts):
    """Base of all families: transformers' conventions. A family declares what differs.

    How to write one: ``docs/write-a-family.md``.
    """

    family: ClassVar[str] = "generic"
    model_types: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[str] = ""
    since: ClassVar[str] = ""
    """First transformers the family runs on, when that is newer than the floor."""
    typical: ClassVar[dict[str, Any]] = {}
    """Fields of :class:`ModelFacts` in which usual checkpoints differ from 24 encoder layers without [CLS] and 32
    plain decoder layers; for the support matrix, which is made without models."""

    image: Geometry | None = Plain()
    video: Geometry | None = Plain()
    policy: PolicyAdapter = PolicyAdapter()

    multimodal_rope: ClassVar[bool] = False
    """Position ids have three rows."""
    keeps_positions: ClassVar[bool] = False
    """Positions of later tokens are counted elsewhere, so gaps are never closed; M-RoPE implies it."""
    native_resolution: ClassVar[bool | None] = None
    """The encoder works at the resolution of the picture; None: M-RoPE families do, others do not."""
    prepared_masks: ClassVar[bool] = False
    """The base model hands finished masks to the decoder, in which images may attend both ways."""
    per_token: ClassVar[tuple[str, ...]] = ("per_layer_inputs",)
    """Further keyword arguments of the decoder with a row per token ``[B, L, ...]``."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have a geometry."""
        return tuple(m for m in MODALITIES if getattr(self, m) is not None)

    def deepstack(self, model: nn.Module) -> int:
        """Number of early decoder layers after which the model adds further rows to visual tokens."""
        return len(follow(self.config(model), "vision_config.deepstack_visual_indexes") or ())

    def no_cuts(self, model: nn.Module) -> str:
        """Why tokens cannot be dropped between decoder layers; empty when they can."""
        return ""

    def facts(self, model: nn.Module) -> ModelFacts:
        """Collect what methods may know."""
        blocks = self.tower_blocks(model)
        depth = len(blocks) if blocks and self.attention(blocks[0]) is not None else 0
        config: Any = model.config
        types = getattr(config.get_text_config(), "layer_types", None) or ()
        return ModelFacts(
            family=self.family,
            vision_layers=depth,
            feature_layer=self.feature_layer(model, depth),
            has_class_token=depth > 0 and self.has_class_token(model),
            global_layers=self.global_layers(model, depth),
            decoder_layers=len(self.layers(model)),
            multimodal_rope=self.multimodal_rope,
            keeps_positions=self.keeps_positions or self.multimodal_rope,
            native_resolution=self.multimodal_rope if self.native_resolution is None else self.native_resolution,
            modalities=tuple(self.modalities),
            linear_layers=tuple(i for i, t in enumerate(types) if "linear" in str(t)),
            no_cuts=self.no_cuts(model),
            actions=self.policy.actions,
        )

    # -- questions about one call, which the geometry of its modality answers ------------------------------------------

    def geometry(self, modality: str) -> Geometry:
        """Geometry of a modality.

        Raises
        ------
        ValueError
            The family has none.
        """
        found: Geometry | None = getattr(self, modality) if modality in MODALITIES else None
        if found is None:
            raise ValueError(f"Family {self.family!r} takes {' and '.join(self.modalities)}s, not {modality!r}.")
        return found

    def encoder(self, model: nn.Module, modality: str = "image") -> Encoder:
        """What the geometries read of a model."""
        tower, has = self.tower(model, modality), self.has_class_token(model)
        return Encoder(self.family, self.config(model), self.base(model), tower, has)

    def _seen(self, model: nn.Module, call: FeatureCall) -> tuple[Geometry, Encoder]:
        return self.geometry(call.modality), self.encoder(model, call.modality)

    def lengths(self, model: nn.Module, call: FeatureCall) -> list[int]:
        """Feature rows of every image or video: :meth:`.Geometry.lengths`."""
        geometry, encoder = self._seen(model, call)
        return geometry.lengths(encoder, call)

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Geometry of every image or video: :meth:`.Geometry.units`, which must be that of the features.

        Raises
        ------
        ValueError
            It is not: the adapter is one of another family.
        """
        geometry, encoder = self._seen(model, call)
        units = geometry.units(encoder, call)
        told, rows = (
            sum(u.length for u in units),
            sum(geometry.lengths(encoder, call)) if call.output is not None else None,
        )
        if rows is not None and told != rows:
            raise ValueError(
                f"{geometry!r} of family {self.family!r} accounts for {told} feature rows, and {type(model).__name__} "
                f"made {rows} for this call: it is not the geometry of this model.{REMEDY}"
            )
        return units

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Patches behind every feature row: :meth:`.Geometry.patch_index`."""
        geometry, encoder = self._seen(model, call)
        return geometry.index(encoder, call)

    def carry(self, model: nn.Module, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistic of patches as one value per feature row: :meth:`.Geometry.carry`."""
        geometry, encoder = self._seen(model, call)
        return geometry.carry(encoder, call, need, raw)

    def part_stats(self, model: nn.Module, call: FeatureCall, need: Need, raw: list[Tensor]) -> list[list[Tensor]]:
        """Statistic of every partition before packing: :meth:`.Geometry.part_stats`."""
        geometry, encoder = self._seen(model, call)
        return geometry.part_stats(encoder, call, need, raw)

    def patch_pixels(self, model: nn.Module, call: FeatureCall) -> list[Tensor]:
        """Pixels behind every patch: :meth:`.Geometry.pixels`."""
        geometry, encoder = self._seen(model, call)
        return geometry.pixels(encoder, call)

    def place_pixels(self, model: nn.Module, call: FeatureCall, need: Need, values: list[Tensor]) -> Tensor:
        """Values made of pixels as one per feature row: :meth:`.Geometry.place_pixels`."""
        geometry, encoder = self._seen(model, call)
        return geometry.place_pixels(encoder, call, need, values)

    def scattered(self, record: EncodeRecord, inputs: Mapping[str, Any]) -> EncodeRecord:
        """Rows that enter the prompt: :meth:`.Geometry.scattered`."""
        return self.geometry(record.modality).scattered(record, inputs)

    def frame_seam(self, model: nn.Module) -> FrameSeam | None:
        """Where to read video frames before they are pooled: :meth:`.Geometry.seam`."""
        return None if self.video is None else self.video.seam(self.encoder(model, "video"))
