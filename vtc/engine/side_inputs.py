"""Mask, positions, rotary tables and added rows of every decoder layer: read once, written where they are needed.

What layers are given beside their rows is made here. A prefill is *read*, then either *passed on* as it is or *entered*
with fewer columns; each later layer whose columns differ is *served*. Decode steps stand in :mod:`vtc.engine.steps`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.layout import Segment
from ..core.tokens import AddedRows, TokenLayout, full
from . import cache as kv
from .forward import Forward, Past, current
from .masks import (
    columns_mask,
    forward_blocks,
    gathered,
    is_finished,
    layer_mask,
    layer_type,
    padding_of,
    past_seen,
    take_blocks,
)
from .rotary import kinds, rotate, shift_positions
from .samples import samples_apart, samples_of
from .seams import NAMES, Arguments, OneMask
from .site import Site
from .types import Cache, Called


class SideInputs:
    """What the decoder's layers are given in one forward.

    Parameters
    ----------
    site : Site
    forward : Forward
    given : Arguments
        Those of the decoder; they are rewritten in place.
    """

    def __init__(self, site: Site, forward: Forward, given: Arguments) -> None:
        self.site, self.forward, self.given = site, forward, given
        self.config: Any = site.decoder.config
        self.mask = given["mask"]
        self.held = 0  # earlier columns, as that mask counts them
        self.blocks: Tensor | dict[str, Tensor | None] | None = None
        self.rotary_positions: Tensor | None = None
        self.memo: dict[Any, Any] = {}

    @property
    def layout(self) -> TokenLayout:
        """Columns of the forward."""
        return self.forward.tokens

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, rows: Tensor) -> None:
        """Note cache, padding, positions and samples of a prefill with ``rows`` [B, L, D]."""
        batch, length = rows.shape[:2]
        cache = self.given["cache"]
        first = kv.first_layer(cache)
        past = self.forward.past = Past(cache, 0 if first is None else kv.stored(first))
        self._note_valid(past, length)
        # the caller's columns are logical; masks that transformers has made count what the cache holds
        self.held = past.held + (kv.dropped(first) if self._is_finished() else 0)
        kind = layer_type(self.config, kv.index_of(cache, first)) if self.held else "full_attention"
        real = self._real(length, self.held, kind)
        real = full(batch, length, rows.device) if real is None else real.to(rows.device).expand(batch, -1)
        self.forward.layout = TokenLayout(real, self.forward.images.columns(real))
        self.layout.positions = self._positions()
        # a base model that makes the masks has done so before the decoder makes a cache
        apart = self.forward.prompt.mask is None if self._prepares() else samples_apart(self.site.decoder, self.given)
        self.layout.samples = samples_of(self.given, self.forward.past.cache, self.layout.batch) if apart else None
        self._note_blocks()
        self._note_added()

    def _real(self, length: int, held: int, kind: str) -> Tensor | None:
        # the caller's 2-D mask says it best; what a model has made of it may let padding see itself
        asked = self.forward.prompt.mask
        known = asked if isinstance(asked, Tensor) and asked.ndim == 2 and asked.shape[1] >= length else self.mask
        return padding_of(known, length, held, kind)

    def _note_valid(self, past: Past, length: int) -> None:
        for i, layer in enumerate(getattr(past.cache, "layers", ())):
            if not kv.is_token_layer(layer):
                continue
            past.before[i] = kv.stored(layer)
            if past.before[i]:
                # the padding of an earlier turn without images is known from the caller's mask alone
                seen = past_seen(layer, self.mask, length)
                past.valid[i] = None if seen is None or bool(seen.all()) else seen

    def _positions(self) -> Tensor:
        """Position ids of all columns, ``[B, L]`` or ``[3, B, L]``, as the decoder would have used them."""
        given, layout = self.given["positions"], self.layout
        if given is None:
            first = kv.first_layer(self.forward.past.cache)
            start = 0 if first is None else int(first.get_seq_length())
            given = (torch.arange(layout.length, device=layout.real.device) + start)[None].expand(layout.batch, -1)
            if self.site.facts.multimodal_rope:
                given = given[None].expand(3, -1, -1)
        elif given.ndim == 3 and given.shape[0] == 4:
            given = given[1:]  # row 0 only tells packed sequences apart, and gaps would fool it
        else:
            given = given.expand(*given.shape[:-2], layout.batch, -1)
        # A cache whose gaps were closed in an earlier turn counts fewer positions than tokens: this turn goes on from
        # there. M-RoPE ids are computed from the prompt anew and are never closed up.
        before = kv.shift_of(self.forward.past.cache)
        return given if before is None or given.ndim == 3 else given - before.to(given.device)[:, None]

    def _prepares(self) -> bool:
        return self.site.adapter.prepared_masks and is_finished(self.mask) and not self.forward.finished

    def _note_blocks(self) -> None:
        if self._prepares():
            self.blocks = forward_blocks(self.mask, self.forward.past.held, self.layout.length)

    def _note_added(self) -> None:
        columns = self.given["added_columns"]
        if columns is not None and self.given["added_rows"] is not None:
            self.forward.added = AddedRows(columns, list(self.given["added_rows"]))

    # -- the entrance --------------------------------------------------------------------------------------------------

    def pass_on(self, rows: Tensor) -> None:
        """Nothing is dropped here: leave the arguments alone unless the cache is already shorter."""
        layout = self.layout
        # Nothing leaves before the first layer, but later cuts may: the layout is needed in any case. The arguments
        # stay as they are, because a prompt that loses nothing must be bit for bit what it is unpatched.
        layout.whole(padded=not self._is_finished() and not bool(layout.real.all()))
        self.given["embeds"] = rows
        self._put_added()
        if kv.is_shrunk(self.forward.past.cache):
            self._put_mask()
            self._shift_positions()

    def enter(self, rows: Tensor, keep: Tensor, renumber: bool) -> None:
        """Gather rows, positions, masks and added rows of the columns in ``keep`` (bool [B, L])."""
        layout = self.layout
        # a finished mask says by itself what is padding: gathered as it is, it needs no guess of ours
        packing = layout.drop(0, keep if self._is_finished() else keep & layout.real, renumber)
        self.given["embeds"] = packing.take(rows)
        for name in self.site.adapter.per_token:
            if self.given.kwargs.get(name) is not None:
                self.given.kwargs[name] = packing.take(self.given.kwargs[name])
        self._put_positions()
        self._put_mask()
        self._put_added()

    def _is_finished(self) -> bool:
        return self.forward.finished and is_finished(self.mask)

    def _put_positions(self) -> None:
        layout, now = self.layout, self.layout.now
        true = layout.closed_up(now)
        packed = layout.take(true, dim=true.ndim - 1)
        rotary = getattr(self.site.decoder, "rotary_emb", None)
        if packed.ndim == 3:
            shown = None if layout.samples is None else layout.shown(now)[None]
            self.given["positions"] = packed if shown is None else torch.cat([shown.to(packed), packed])
        elif isinstance(rotary, nn.Module):
            # mask code sees contiguous ids, and the rotary embedding alone the true ones
            self.rotary_positions, self.given["positions"] = packed, layout.shown(now)
        else:
            self.given["positions"] = packed

    def _put_mask(self) -> None:
        """Mask of the columns that enter: what the decoder makes its own from, or finished ones."""
        cache, rows, now = self.forward.past.cache, self.given["embeds"], self.layout.now
        # Masks are handed on explicitly, even where nothing would do: without one, transformers guesses from position
        # ids whether rows are packed, and the gaps that dropped tokens leave look like borders between samples.
        if is_finished(self.mask) and (self._is_finished() or self.site.adapter.prepared_masks):
            if isinstance(self.mask, dict):
                self.given["mask"] = {kind: self.layer_mask(i, rows) for kind, i in kinds(self.config).items()}
            else:
                self.given["mask"] = self.layer_mask(0, rows)
            return
        first = kv.first_layer(cache)
        past = None if first is None or cache is None else self.forward.past.valid.get(kv.index_of(cache, first))
        mask = columns_mask(first, past, now.valid, now.width, rows)
        if self.layout.samples is not None:
            mask = None  # the ids tell the samples apart, and only without a mask does anybody look at them
        elif mask is None and cache is None:
            mask = full(self.layout.batch, now.width, rows.device)
        self.given["mask"] = mask

    def _put_added(self) -> None:
        """Let the model add the rows that are left, or add them ourselves when tokens are dropped in between."""
        added = self.forward.added
        if added is None:
            return
        if self.site.adds_rows(self.forward.plan):
            # The model adds them by boolean columns of the prompt. After a cut between those layers the columns no
            # longer fit, so the model gets none and the layers' hooks add what is left.
            self.given.pop("added_columns"), self.given.pop("added_rows")
            return
        left = added.kept(self.layout)
        self.given["added_columns"], self.given["added_rows"] = left.columns, left.levels

    def _shift_positions(self) -> None:
        shift_positions(self.given, self.forward.past.cache, self.given["embeds"])

    def adopt(self, cache: Cache | None) -> None:
        """Take over the cache that the decoder has made itself; whether it makes one is its own affair."""
        if self.forward.past.cache is None and cache is not None:
            self.forward.past.cache = cache
            if not self._prepares():
                self.layout.samples = None  # with a cache, position ids tell no samples apart

    # -- between the layers --------------------------------------------------------------------------------------------

    def serve(self, index: int, hidden: Tensor, given: Arguments) -> None:
        """Give layer ``index`` the mask, positions and rotary tables of the columns that are left."""
        segment = self.layout.now
        # One segment and a plain cache: the decoder's own mask and tables hold for every layer.
        if len(self.layout.segments) == 1 and not kv.is_shrunk(self.forward.past.cache):
            return
        self._put_rotary(index, segment, hidden, given)
        # Layers take positions for their flash kernels alone, to find packed samples: contiguous ids, or none at all.
        if len(self.layout.segments) > 1:
            given["positions"] = None if self.layout.samples is None else self.layout.shown(segment)
        given["mask"] = self.layer_mask(index, hidden)
        layer = kv.layer_at(self.forward.past.cache, index)
        if isinstance(layer, kv.Shrunk):
            layer.helped = True

    def layer_mask(self, index: int, hidden: Tensor) -> OneMask:
        """Mask of layer ``index`` in the segment at work, in the format of the user's kernel."""
        layout, past, segment = self.layout, self.forward.past, self.layout.now
        layer, kind = kv.layer_at(past.cache, index), layer_type(self.config, index)
        # layers with the same past share one mask: this is what keeps a prefill at one mask per segment and kind
        key = ("mask", segment.start, getattr(layer, "history", ()), kind)
        if key not in self.memo:
            if self._is_finished():
                given = self.mask.get(kind) if isinstance(self.mask, dict) else self.mask
                self.memo[key] = gathered(given, segment.packing, layer, layout.length)
            else:
                table = self.blocks.get(kind) if isinstance(self.blocks, dict) else self.blocks
                blocks = take_blocks(table, segment.packing, hidden.shape[0])
                apart = None if layout.samples is None else layout.apart(segment)
                valid = past.valid.get(index)
                self.memo[key] = layer_mask(self.config, index, hidden, layer, valid, segment.valid, blocks, apart)
        return self.memo[key]

    def _put_rotary(self, index: int, segment: Segment, hidden: Tensor, given: Arguments) -> None:
        tables, extra = given["rotary"], kv.extra_shift(self.forward.past.cache, index)
        if tables is None or (len(self.layout.segments) == 1 and extra is None):
            return
        layer: Any = kv.layer_at(self.forward.past.cache, index)
        key = ("rotary", segment.start, id(tables[0]), 0 if extra is None else id(layer.shift))
        if key not in self.memo:
            # the tables are held, so that their ids are not used again
            self.memo[key] = (tables, self._rotated(index, segment, tables, hidden, extra))
        given["rotary"] = self.memo[key][1]

    def _rotated(
        self, index: int, segment: Segment, tables: tuple[Tensor, ...], hidden: Tensor, extra: Tensor | None
    ) -> tuple[Tensor, ...]:
        layout, first = self.layout, self.layout.segments[0].packing
        closed = max((s for s in layout.gone if s <= segment.start), default=0)
        if extra is None and closed == 0 and segment.packing is not None:
            inner = segment.packing if first is None else segment.packing.within(first)
            return tuple(inner.take(x, dim=x.ndim - 2) for x in tables)
        positions = layout.take(layout.closed_up(segment), segment=segment)
        if extra is not None:
            positions = positions - extra.to(positions.device)[:, None]
        entrance, self.rotary_positions = self.rotary_positions, None  # these, not those of the entrance
        try:
            return rotate(self.site.decoder, index, hidden, positions)
        finally:
            self.rotary_positions = entrance


def true_positions(handle: object, args: tuple, kwargs: dict[str, Any]) -> Called | None:
    """Arguments of a rotary embedding with the true positions of gathered columns; None: as they are."""
    forward = current(handle)
    side = None if forward is None else forward.notes.get(SideInputs)
    if side is None or side.rotary_positions is None:
        return None
    name = NAMES["positions"][0]
    if name in kwargs:
        return args, {**kwargs, name: side.rotary_positions}
    return (args[0], side.rotary_positions, *args[2:]), kwargs
