"""The contract between methods and the engine: places, needs, views and selections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .layout import Role, Unit

Scope = Literal["image", "frame", "row", "clip"]
Positions = Literal["keep", "renumber"]
Stat = Literal[
    "class_row",
    "received",
    "query_rows",
    "next_rows",
    "masses",
    "actions",
    "focus",
    "entropy",
    "hidden_in",
    "hidden_out",
    "transition",
]


@dataclass(frozen=True)
class Encoder:
    """Inside the vision tower, before block ``layer`` (0-based): later blocks run on fewer patches."""

    layer: int


@dataclass(frozen=True)
class Projector:
    """After the projector, before the language model."""


@dataclass(frozen=True)
class Decoder:
    """Before decoder layer ``layer`` (0-based), prefill only."""

    layer: int


Place = Encoder | Projector | Decoder


@dataclass(frozen=True)
class Need:
    """One measurement a stage asks for.

    Parameters
    ----------
    tower : {"vision", "decoder"}
    layer : int
        0-based absolute layer.
    stat : str
        ``class_row``: attention of the [CLS] query to every patch, mean over heads.
        ``received``: attention a patch receives, mean over heads and over the queries of its segment.
        ``focus``: two-pass received attention (VFlowOpt); ``option`` = threshold t.
        ``entropy``: softmax over the patches of a partition of their grey-level entropy in bits; ``option`` =
        "paper" or "wrapped" (VFlowOpt).
        ``query_rows``: attention of chosen rows to every token, mean over heads and rows; ``option`` = "last", "text"
        (all behind the last image), "inner" (the same without its first and last row) or "all" (the whole prompt,
        padding and action placeholders excluded).
        ``next_rows``: the same of the layer a decoder stage stands before, computed ahead from the rows as they
        enter it (PyramidDrop, TransPrune).
        ``masses``: ``[2]`` for the whole row, not per token: mean attention of text rows to the visual tokens, and of
        visual rows to the text; ``option`` = length of the system prompt in tokens, None: all before the first image
        (ToDRE).
        ``transition``: how much attention and FFN change a token (TransPrune); ``option`` = (direction, domain).
        ``actions``: attention of the action queries, see :class:`Feedback`.
        ``hidden_in``, ``hidden_out``: the layer's input or output; of the decoder only the input of layer 0, the rows
        that enter the language model.
    option : hashable
        Parameter of the statistic.
    """

    tower: Literal["vision", "decoder"]
    layer: int
    stat: Stat
    option: str | float | tuple | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a method may know about a model before it runs. Layers are 0-based.

    Parameters
    ----------
    family : str
    vision_layers : int
        Blocks of the vision tower (0: no tower found).
    feature_layer : int
        Block whose output becomes the features (the ``end`` of an ensemble of layers).
    has_class_token : bool
    global_layers : tuple of int
        Blocks whose attention spans a whole image (all but windowed ones).
    decoder_layers : int
    multimodal_rope : bool
        True for M-RoPE decoders, whose position ids have three rows.
    keeps_positions : bool
        Positions of later tokens are always those of the whole prompt: M-RoPE, and models that count them elsewhere.
    native_resolution : bool
        The encoder works at the resolution of the picture.
    linear_layers : tuple of int
        Decoder layers without per-token KV (linear attention).
    no_cuts : str
        Why tokens cannot be dropped between decoder layers; empty when they can.
    actions : {"generated", "placeholders", "expert"}
        What asks for actions: the last prompt token and the generated ones, placeholders at the end of the prompt
        that are read in one pass, or a second decoder that reads the first one's cache.
    """

    family: str = "generic"
    vision_layers: int = 0
    feature_layer: int = -1
    has_class_token: bool = False
    global_layers: tuple[int, ...] = ()
    decoder_layers: int = 0
    multimodal_rope: bool = False
    keeps_positions: bool = False
    native_resolution: bool = False
    linear_layers: tuple[int, ...] = ()
    no_cuts: str = ""
    actions: Literal["generated", "placeholders", "expert"] = "generated"


@dataclass(frozen=True)
class FrameGrids:
    """Frames of a video before the model's own pooling.

    Parameters
    ----------
    rows : Tensor [T, H * W, C]
    grid : (H, W)
    pooling : {"bilinear", "average"}
        What the model does to them, to get the features.
    finish : callable
        What follows the pooling in the model: ``[N, C]`` to feature rows ``[N, D]``.
    """

    rows: Tensor
    grid: tuple[int, int]
    pooling: Literal["bilinear", "average"]
    finish: Callable[[Tensor], Tensor]


@dataclass
class View:
    """Everything a stage sees for one decision over N visual tokens of one row.

    Attributes
    ----------
    features : Tensor [N, D]
        Rows that enter the language model (projector stages) or hidden rows (decoder stages).
    stats : mapping of Need to Tensor
        Per token, ``[N]`` fp32 (``[N, D]`` for hidden rows); rows without a patch (newlines) are NaN.
    unit : LongTensor [N]
        Ordinal of the image of each token within the view (all 0 for scope "image").
    part, cell, role : LongTensor [N]
        Partition (tile or frame) within the image, raster index inside the partition (-1: none), :class:`Role`.
    units : list of Unit
        Geometry, one per ordinal of ``unit``.
    keep_count : callable
        ``keep_count(n)`` tokens to keep of n candidates: the budget, resolved by the library.
    row, image : int
        Row of the batch and ordinal of the (first) image in it; part of the seed of random choices.
    text : Tensor [T, D] or None
        Text rows of the same batch row at the same depth, padding removed.
    total : int
        Visual tokens of this view before any stage has run (schedules of shares refer to it).
    state : dict
        The method's memory for this row over calls; empty unless the method keeps one.
    scratch : dict
        Shared by all stages of one forward for one row.
    clip, clips : int
        Ordinal of this decision in the batch, and how many there are (scope "clip").
    scored : list of Tensor or None
        What a scorer gave for the clips of this call.
    unpooled : FrameGrids or None
        Filled when the stage asks for it and the family pools videos behind a seam.
    apart : bool
        Other tokens stand between those of this view: frames between time stamps, images between words (scope "clip").
    """

    features: Tensor
    unit: Tensor
    part: Tensor
    cell: Tensor
    role: Tensor
    units: list[Unit]
    keep_count: Callable[[int], int]
    stats: Mapping[Need, Tensor] = field(default_factory=dict)
    row: int = 0
    image: int = 0
    text: Tensor | None = None
    total: int = 0
    state: dict = field(default_factory=dict)
    scratch: dict = field(default_factory=dict)
    clip: int = 0
    clips: int = 1
    scored: list[Tensor] | None = None
    unpooled: FrameGrids | None = None
    apart: bool = False

    @property
    def n(self) -> int:
        """Number of tokens to decide on."""
        return self.features.shape[0]

    @property
    def budget(self) -> int:
        """Tokens to keep of all N."""
        return self.keep_count(self.n)

    @property
    def modality(self) -> str:
        """``"image"`` or ``"video"``, of the first unit."""
        return self.units[0].modality

    @property
    def patches(self) -> Tensor:
        """Indices [P] of the tokens that stand for patches, not for newlines or separators."""
        return (self.role == Role.PATCH).nonzero(as_tuple=True)[0]

    def generator(self, seed: int) -> torch.Generator:
        """Private CPU generator: the same for the same seed, image ordinal and number of tokens."""
        return torch.Generator().manual_seed((seed * 1_000_003 + self.image * 8191 + self.n) % (2**63))


@dataclass
class Selection:
    """A stage's decision.

    Parameters
    ----------
    keep : LongTensor [K]
        Kept tokens, strictly increasing.
    values : Tensor [K, D] or None
        Rows that replace the kept ones (merging); None leaves them as they are.
    scores : Tensor [N] or None
        What the choice was based on, larger is kept, for pictures and reports.
    groups : LongTensor [N] or None
        For merging: position in ``keep`` each token went to, -1 = dropped.
    weights : Tensor [N] or None
        Weight of each token inside its merge group (sums to 1 per group); lets the engine merge extra rows alike.
    remap : callable or None
        Does to further rows of the same tokens (deepstack) what was done to the features: ``[N, E]`` to ``[K, E]``.
    """

    keep: Tensor
    values: Tensor | None = None
    scores: Tensor | None = None
    groups: Tensor | None = None
    weights: Tensor | None = None
    remap: Callable[[Tensor], Tensor] | None = None

    def merging(self) -> Callable[[Tensor], Tensor] | None:
        """What was done to the features, for further rows of the same tokens: ``[N, E]`` to ``[K, E]``; None: nothing.

        ``remap`` says it; without one, every kept row is the mean of its group by ``weights``.
        """
        if self.remap is not None or self.values is None or self.groups is None:
            return self.remap
        groups, weights = self.groups, self.weights
        if weights is None:
            inside = groups.clamp_min(0)
            size = torch.zeros(len(self.keep), device=groups.device).index_add(0, inside, (groups >= 0).float())
            weights = (groups >= 0) / size.clamp_min(1)[inside]

        def merge(rows: Tensor) -> Tensor:
            member = groups.to(rows.device) >= 0
            share = weights.to(rows.device, torch.promote_types(rows.dtype, torch.float32))[member, None]
            out = torch.zeros(len(self.keep), rows.shape[1], dtype=share.dtype, device=rows.device)
            return out.index_add(0, groups.to(rows.device)[member], rows[member].to(share.dtype) * share).to(rows.dtype)

        return merge


@dataclass(frozen=True)
class Stage:
    """One decision of a method.

    Parameters
    ----------
    at : Encoder, Projector or Decoder
    select : callable
        ``select(view) -> Selection``; pure tensor code.
    keep_count : callable
        ``keep_count(n)`` for the budget of a view with n tokens.
    needs : tuple of Need
    scope : {"image", "frame", "row", "clip"}
        One decision per image (or video), per partition (frame, tile), for all visual tokens of a row together, or per
        clip: every video is one, and its row's images are left alone; without a video the images of a row are one.
    positions : {"keep", "renumber"}
        What happens to 1-D position ids of later tokens; M-RoPE ids are always kept.
    needs_text : bool
        Fill ``View.text``.
    modalities : tuple of str
        Modalities the stage acts on; others pass through untouched.
    unpooled : bool
        Fill ``View.unpooled``.
    """

    at: Place
    select: Callable[[View], Selection]
    keep_count: Callable[[int], int]
    needs: tuple[Need, ...] = ()
    scope: Scope = "image"
    positions: Positions = "keep"
    needs_text: bool = False
    modalities: tuple[str, ...] = ("image", "video")
    unpooled: bool = False


@dataclass(frozen=True)
class Feedback:
    """What a method wants to hear of a call after its selection: where the action queries have looked.

    Parameters
    ----------
    layers : tuple of int
        0-based layers of the decoder, or of the expert that reads its cache, whose attention is averaged.
    take : callable
        ``take(slot, scores)`` at the end of a policy call: ``slot`` is ``View.state`` of the row, ``scores`` [M] fp32
        the mean attention of the action queries to the row's visual tokens, 0 where one was pruned before a layer.
    """

    layers: tuple[int, ...]
    take: Callable[[dict, Tensor], None]
