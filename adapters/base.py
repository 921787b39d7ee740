"""What the engine must know about a family: names, ids, and how encoder patches become feature rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vtc.core.layout import Role, Unit
from vtc.core.prompt import Prompt
from vtc.core.stage import FrameGrids, ModelFacts, Need

CLASS_TOKEN_NAMES = ("class_embedding", "cls_token")


@dataclass
class FeatureCall:
    """One call of ``get_image_features`` or ``get_video_features``.

    ``kwargs`` are its arguments by name; ``output`` is None while the tower still runs; ``shape`` is
    (batch, patches) of the tower's hidden states.
    """

    modality: str
    kwargs: Mapping[str, Any]
    output: Any = None
    shape: tuple[int, int] | None = None

    @property
    def pixels(self) -> Tensor:
        """Pixel values; older releases of transformers name those of videos as those of images."""
        found = self.kwargs.get("pixel_values_videos") if self.modality == "video" else None
        return self.kwargs["pixel_values"] if found is None else found


@dataclass
class EncodeRecord:
    """What one feature call tells the decoder side; it travels on the output object.

    ``stats`` hold one value per feature row (``[rows]`` fp32, NaN where a row has no patch).
    """

    modality: str
    units: list[Unit]
    stats: dict[Need, Tensor] = field(default_factory=dict)
    seconds: Any = None
    alive: Tensor | None = None
    """Bool [rows]: what an encoder stage left, None when there was none."""
    frames: FrameGrids | None = None
    """All frames of the call before pooling, where a stage asked for them."""

    @property
    def rows(self) -> int:
        """Feature rows in total."""
        return sum(u.length for u in self.units)

    def subset(self, keep: Tensor) -> EncodeRecord:
        """Record of the rows where ``keep`` (bool [rows], CPU) is true; emptied units vanish."""
        pieces = keep.split([u.length for u in self.units])
        units = [u.subset(k) for u, k in zip(self.units, pieces, strict=True) if bool(k.any())]
        stats = {need: values[keep.to(values.device)] for need, values in self.stats.items()}
        alive = None if self.alive is None else self.alive[keep.to(self.alive.device)]
        return EncodeRecord(self.modality, units, stats, self.seconds, alive)


@dataclass(frozen=True)
class FrameSeam:
    """Where the frames of videos can be read before the model pools them.

    Parameters
    ----------
    module : nn.Module
        Runs once per video call.
    takes : {"input", "output"}
        Which side of it holds the frames ``[T, H * W, C]``.
    grid, pooling, finish
        See :class:`~vtc.core.stage.FrameGrids`.
    """

    module: nn.Module
    takes: Literal["input", "output"]
    grid: tuple[int, int]
    pooling: Literal["bilinear", "average"]
    finish: Callable[[Tensor], Tensor]

    def grids(self, rows: Tensor) -> FrameGrids:
        """Frames that passed."""
        return FrameGrids(rows, self.grid, self.pooling, self.finish)


def follow(root: Any, path: str) -> Any:
    """Attribute at a dotted path, None when some part is missing."""
    for name in path.split("."):
        root = getattr(root, name, None)
        if root is None:
            return None
    return root


def first_path(root: Any, paths: tuple[str, ...]) -> Any:
    """Return the first of several dotted paths that exists, None when none does."""
    return next((found for p in paths if (found := follow(root, p)) is not None), None)


class Adapter:
    """Base of all families: transformers' conventions. A family overrides what differs.

    Class attributes are paths below the base model, tried in order.
    """

    family: ClassVar[str] = "generic"
    model_types: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[str] = ""
    typical: ClassVar[dict[str, Any]] = {}
    """Fields of :class:`ModelFacts` in which usual checkpoints differ from 24 encoder layers without [CLS] and 32
    plain decoder layers; for the support matrix, which is made without models."""
    towers: ClassVar[tuple[str, ...]] = ("vision_tower", "visual", "vision_model", "image_tower")
    blocks: ClassVar[tuple[str, ...]] = (
        "encoder.layers",
        "transformer.layers",
        "blocks",
        "encoder.layer",
        "layers",
        "vision_model.encoder.layers",
    )
    attentions: ClassVar[tuple[str, ...]] = ("self_attn", "attention", "attn")
    modalities: ClassVar[tuple[str, ...]] = ("image", "video")
    since: ClassVar[str] = ""
    """First transformers the family runs on, when that is newer than the floor."""
    multimodal_rope: ClassVar[bool] = False
    """Position ids have three rows."""
    keeps_positions: ClassVar[bool] = False
    """Positions of later tokens are counted elsewhere, so gaps are never closed; M-RoPE implies it."""
    native_resolution: ClassVar[bool | None] = None
    """The encoder works at the resolution of the picture; None: M-RoPE families do, others do not."""
    prepared_masks: ClassVar[bool] = False
    """The base model hands finished masks to the decoder, in which images may attend both ways."""

    action_length: int = 0
    """Placeholders at the end of a prompt that one pass turns into actions."""
    policy_calls: ClassVar[tuple[str, ...]] = ("generate",)
    """Methods of the model that run a whole policy call."""
    embeds_prompt: ClassVar[tuple[str, str] | None] = None
    """Submodule and method that turn ids and pixels into embeddings outside of the base model, if one does. The engine
    leaves ``(records, columns)`` on what it returns, as the attribute ``vtc_prompt``."""

    per_token: ClassVar[tuple[str, ...]] = ("per_layer_inputs",)
    """Further keyword arguments of the decoder with a row per token ``[B, L, ...]``."""

    def base(self, model: nn.Module) -> Any:
        """Model without its head: embeds, encodes, scatters, calls the decoder."""
        return model.base_model

    def decoder(self, model: nn.Module) -> nn.Module:
        """Text decoder whose ``layers`` the engine hooks."""
        return model.get_decoder()  # type: ignore[operator]

    def layers(self, model: nn.Module) -> nn.ModuleList:
        """Decoder layers."""
        return self.decoder(model).layers  # type: ignore[return-value]

    def tower(self, model: nn.Module, modality: str = "image") -> Any:
        """Vision tower, None when none was found."""
        return first_path(self.base(model), self.towers)

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

    def expert(self, model: nn.Module) -> Any:
        """Second decoder that reads the cache of the first, None when there is none."""
        return None

    def expert_rows(self, model: nn.Module) -> int:
        """Rows at the end of its input that become actions."""
        return 0

    def deepstack(self, model: nn.Module) -> int:
        """Number of early decoder layers after which the model adds further rows to visual tokens."""
        return len(getattr(getattr(model.config, "vision_config", None), "deepstack_visual_indexes", None) or ())

    def no_cuts(self, model: nn.Module) -> str:
        """Why tokens cannot be dropped between decoder layers; empty when they can."""
        return ""

    def token_ids(self, model: nn.Module) -> dict[str, int]:
        """Placeholder ids by modality."""
        ids = {m: first_path(model.config, (f"{m}_token_id", f"{m}_token_index")) for m in self.modalities}
        return {m: int(i) for m, i in ids.items() if i is not None}

    def has_class_token(self, model: nn.Module) -> bool:
        """True when the tower prepends a [CLS] token."""
        tower = self.tower(model)
        names = [n.rsplit(".", 1)[-1] for n, _ in tower.named_parameters()] if tower is not None else []
        return any(n in CLASS_TOKEN_NAMES for n in names)

    def feature_layer(self, model: nn.Module, depth: int) -> int:
        """0-based block whose output becomes the features."""
        chosen = first_path(model.config, ("vision_feature_layer", "vision_feature_layers"))
        if chosen is None:
            return depth - 1
        values = [chosen] if isinstance(chosen, int) else list(chosen)
        return max(depth + v if v < 0 else v - 1 for v in values)

    def global_layers(self, model: nn.Module, depth: int) -> tuple[int, ...]:
        """Blocks that attend to the whole image."""
        return tuple(range(depth))

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
            linear_layers=tuple(i for i, t in enumerate(types) if "linear" in str(t)),
            no_cuts=self.no_cuts(model),
        )

    def frame_seam(self, model: nn.Module) -> FrameSeam | None:
        """Where to read video frames before the model's own pooling; None: it does not pool, or not readably."""
        return None

    def lengths(self, model: nn.Module, call: FeatureCall) -> list[int]:
        """Feature rows of every image or video; before the features exist, from the shape of the tower's rows."""
        if call.output is not None:
            return [f.reshape(-1, f.shape[-1]).shape[0] for f in call.output.pooler_output]
        assert call.shape is not None
        return [self.patch_index(model, call).shape[0] // call.shape[0]] * call.shape[0]

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Geometry of every image or video of a feature call, in feature order.

        The default knows square lattices: a square number of rows is taken for one.
        """
        units = [Unit(call.modality, n, grid=square(n)) for n in self.lengths(model, call)]
        return [with_class_row(u) for u in units] if self.keeps_class_row(model, call) else units

    def scattered(self, record: EncodeRecord, inputs: Mapping[str, Any]) -> EncodeRecord:
        """Rows of ``record`` that the base model, called with ``inputs``, puts into the prompt: all of them."""
        return record

    def given(self, model: nn.Module, prompt: Prompt) -> tuple[list[EncodeRecord], dict[str, Tensor]]:
        """Images that lie in the prompt of the base model without having been encoded by it.

        Returns
        -------
        list of EncodeRecord, and dict of str to BoolTensor [B, L]
            Geometry, and the columns per modality.
        """
        return [], {}

    def keeps_class_row(self, model: nn.Module, call: FeatureCall) -> bool:
        """True when [CLS] is one of the features (``vision_feature_select_strategy="full"``)."""
        name = "vision_feature_select_strategy"
        chosen = call.kwargs.get(name) or getattr(model.config, name, None)
        return chosen == "full" and self.has_class_token(model)

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Rows of the tower, flattened over the batch, that make each feature row: LongTensor [rows, m].

        -1 in all m places: a row without a patch (newline). ``call.shape`` is (batch, patches) of the tower's hidden
        states. The default: one row per patch, [CLS] cut.

        Raises
        ------
        ValueError
            Feature rows are not made of whole patches; the message says why.
        """
        assert call.shape is not None
        index = torch.arange(call.shape[0] * call.shape[1]).view(call.shape)
        cut = self.has_class_token(model) and not self.keeps_class_row(model, call)
        return index[:, int(cut) :].reshape(-1, 1)

    def carry(self, model: nn.Module, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistic of the encoder's patches as one value per feature row ``[rows]``, NaN for a [CLS] row.

        Parameters
        ----------
        raw : list of Tensor [images, patches]
            Results of the kernel calls, in call order; some lack the column of [CLS] (``need.statistic.class_column``).

        Raises
        ------
        ValueError
            The family's features do not correspond to patches one to one.
        """
        if self.has_class_token(model) and not need.statistic.class_column:
            raw = [torch.cat([r.new_full((r.shape[0], 1), torch.nan), r], 1) for r in raw]
        same = len({r.shape[-1] for r in raw}) == 1
        batch = sum(r.shape[0] for r in raw) if same else 1
        flat = torch.cat([r.reshape(-1) for r in raw])
        placed = FeatureCall(call.modality, call.kwargs, call.output, (batch, flat.numel() // batch))
        index, rows = self.patch_index(model, placed), sum(self.lengths(model, call))
        if index.shape[0] != rows:
            raise ValueError(
                f"Family {self.family!r}: {flat.numel()} encoder patches became {rows} feature rows, and the adapter "
                f"does not know how; {need.stat!r} of layer {need.layer} cannot be carried over. Use a method that "
                "needs no encoder attention, or write an adapter with its own `patch_index`."
            )
        index = index.to(flat.device)
        return flat[index.clamp_min(0)].mean(-1).masked_fill(index[:, 0] < 0, torch.nan)

    def part_stats(self, model: nn.Module, call: FeatureCall, need: Need, raw: list[Tensor]) -> list[list[Tensor]]:
        """Statistic of every partition before packing, per unit, for families whose packing drops patches; else []."""
        return []

    def patch_pixels(self, model: Any, call: FeatureCall) -> list[Tensor]:
        """Normalised pixels behind every patch, per crop: list of [N, 3, pixels].

        Raises
        ------
        ValueError
            The family's pixels do not come as crops of one size.
        """
        pixels = call.kwargs.get("pixel_values")
        side = getattr(getattr(self.tower(model), "config", None), "patch_size", None)
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or not isinstance(side, int):
            raise ValueError(f"Family {self.family!r}: cannot tell which pixels lie behind a patch.")
        patches = torch.nn.functional.unfold(pixels.float(), side, stride=side)  # [B, 3 * side^2, N]
        return list(patches.transpose(1, 2).unflatten(2, (3, side * side)))

    def place_pixels(self, model: Any, call: FeatureCall, need: Need, values: list[Tensor]) -> Tensor:
        """Values made of :meth:`patch_pixels`, one [N] per crop, as one value per feature row."""
        return self.carry(model, call, need, [v[None] for v in values])


def square(n: int) -> tuple[int, int, int] | None:
    """``(1, s, s)`` for a square number of tokens, else None."""
    side = isqrt(n)
    return (1, side, side) if side * side == n else None


def with_class_row(unit: Unit) -> Unit:
    """Unit whose first row is the [CLS] token (``vision_feature_select_strategy="full"``)."""
    side = square(unit.length - 1)
    role = torch.zeros(unit.length, dtype=torch.long)
    role[0] = Role.CLASS
    cell = torch.arange(-1, unit.length - 1)
    grids = ((side[1], side[2]),) if side else ((1, unit.length - 1),)
    return Unit(unit.modality, unit.length, None, torch.zeros_like(role), cell, role, grids, unit.info)
