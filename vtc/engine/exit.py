"""Behind the last decoder layer: tell the cache what it does not hold, count, and give the output its columns back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.layout import Packing, Segment
from . import cache as kv
from .forward import Forward
from .record import CallRecord
from .types import CacheLayer, DecoderOutput


def commit(forward: Forward) -> None:
    """Note on every cache layer which logical tokens it stands for without holding them.

    The layer grew by the segment's width; the forward by its length. The difference is what the layer will count on top
    from now on. ``valid`` has to grow as well wherever rows are ragged: later steps must not see the padding that a
    packing has put before shorter rows.
    """
    layout, past, cache = forward.tokens, forward.past, forward.past.cache
    if cache is None or not forward.is_prefill and layout.segments[0].valid is None:
        return  # a decode step or a full text turn: later columns count as real, nothing to write down
    for i, layer in enumerate(list(cache.layers)):
        segment = layout.at(i)
        # The layer was asked how long it is before this forward, in logical tokens, and will be again after it. What it
        # stored is `segment.width` columns; the forward stood for `length` of them. The difference is counted on top
        # from now on, so that generate's own arithmetic (positions, masks, crops, the next turn) never learns that
        # anything is missing.
        gone = layout.length - segment.width
        # A packing puts padding before shorter rows even where nothing was dropped from the longest: then `gone` is 0
        # and the layer must still know which of its columns are no tokens.
        ragged = segment.packing is not None or isinstance(layer, kv.Shrunk)
        if not kv.is_token_layer(layer) or not (gone or ragged):
            continue
        held = kv.stored(layer)
        if held < segment.width:
            continue  # a layer without keys of its own (shared ones); `count` looks at the others
        before, device = held - segment.width, layout.real.device
        valid = kv.join_valid(past.valid.get(i), before, segment.valid, segment.width, layout.batch, device)
        # Crops (assisted decoding, rolled back turns) may take what every row kept, and no more: behind the last
        # dropped column logical and physical tokens run in step again.
        fixed = held - layout.kept_tail(segment) if gone or segment.packing is not None else 0
        shift = _shift(forward, segment, layer)
        columns = _columns(layer, segment, layout.length, before, layout.batch, device)
        kv.commit(cache, i, kv.Change(gone, valid, columns, shift, fixed, (forward.number, segment.start)))
    kv.settle(cache)


def _columns(
    layer: CacheLayer | None, segment: Segment, length: int, before: int, batch: int, device: torch.device
) -> Tensor:
    """Logical columns of all that a layer holds after this forward."""
    # Columns are remembered per token, since rows of a batch may have lost different ones: a mask of a later turn
    # counts logical columns and is read through this table.
    start = before + kv.dropped(layer)
    index = segment.packing.index if segment.packing is not None else torch.arange(length, device=device)
    known = getattr(layer, "columns", None)
    earlier = torch.arange(before, device=device) + kv.dropped(layer)
    past = earlier.expand(batch, -1)
    if known is not None:
        known = known.to(device)[:, :before]
        past = torch.cat([known, earlier[known.shape[1] :].expand(batch, -1)], 1)
    return torch.cat([past, (index + start).expand(batch, -1)], 1)


def _shift(forward: Forward, segment: Segment, layer: CacheLayer | None) -> Tensor | None:
    """What later positions of this layer are to be reduced by: by earlier turns and by this one."""
    new, before = forward.tokens.shift(segment), getattr(layer, "shift", None)
    if new is None:
        return before
    # layers that agree share one tensor, so that decode steps rotate once for all of them
    closed = max(s for s in forward.tokens.gone if s <= segment.start)
    memo = forward.notes.setdefault("shifts", {})
    key = (closed, id(before))
    if key not in memo:
        memo[key] = new if before is None else new + before.to(new.device)
    return memo[key]


def count(forward: Forward) -> None:
    """Check that every cache layer holds what was counted: shapes alone, nothing is read from the device.

    Raises
    ------
    RuntimeError
        It does not: some seam of transformers is not what vtc takes it for, and the answer cannot be trusted.
    """
    layout, past = forward.tokens, forward.past
    if not forward.is_prefill or len(layout.segments) == 1 and layout.segments[0].packing is None:
        return
    layers = [x for x in getattr(past.cache, "layers", ()) if kv.is_token_layer(x)]
    held = [kv.stored(x) for x in layers]
    for i, layer in enumerate(getattr(past.cache, "layers", ())):
        if not kv.is_token_layer(layer) or getattr(layer, "is_initialized", True) is False and any(held):
            continue
        # The one check that needs no luck: whatever a release changes about hooks, caches or the order of calls, a
        # layer that holds another number of tokens than was counted has run on something else than vtc believes.
        want = past.before.get(i, 0) + layout.at(i).width
        if kv.stored(layer) != want:
            raise RuntimeError(
                f"Cache layer {i} ({type(layer).__name__}) holds {kv.stored(layer)} tokens per row where vtc counted "
                f"{want}: the cache did not take part in this forward as vtc expects, and its answer cannot be "
                "trusted. Run `vtc doctor --prove`, and use a tested version of transformers."
            )


def record_of(forward: Forward) -> CallRecord:
    """What this prefill leaves behind for the user."""
    layout, cache, images = forward.tokens, forward.past.cache, forward.images
    held = kv.kv_bytes(cache)
    full = [_full_bytes(layer, size) for layer, size in zip(getattr(cache, "layers", ()), held, strict=True)]
    return CallRecord(
        images=[place.log for place in images.places],
        rows=layout.batch,
        sequence=layout.real.sum(1).tolist(),
        layers=layout.counts(),
        cached=[forward.past.held] * layout.batch,
        kv_bytes=held,
        kv_bytes_full=full,
        clock=forward.clock,
        vision_clock=[record.seconds for record in images.records],
    )


def _full_bytes(layer: CacheLayer, held: int) -> int:
    """Bytes the layer would hold had nothing been dropped; static layers hold their whole length in any case."""
    if not kv.is_token_layer(layer) or not held or layer.is_compileable:
        return held
    kept = kv.stored(layer)
    total = kept + kv.dropped(layer)
    window = getattr(layer, "sliding_window", None)
    if getattr(layer, "is_sliding", False) and window is not None:
        kept, total = (min(count, window - 1) for count in (kept, total))
    return held * total // kept


def logical_output(forward: Forward, output: DecoderOutput) -> DecoderOutput:
    """Give hidden states and attention maps the columns of the prompt."""
    layout, last = forward.tokens, forward.tokens.now
    # decoders that compute the last columns only, as many as the head wants, are right as they are
    if last.packing is not None and output.last_hidden_state.shape[1] == last.width:
        output.last_hidden_state = last.packing.restore(output.last_hidden_state)
    states = getattr(output, "hidden_states", None)
    if states is not None and any(s.packing is not None for s in layout.segments):
        output.hidden_states = tuple(_full_state(forward, i, x) for i, x in enumerate(states))
    maps = getattr(output, "attentions", None)
    if maps is not None:
        output.attentions = tuple(_full_map(forward, i, x) for i, x in enumerate(maps))
    return output


def _full_state(forward: Forward, index: int, x: Tensor) -> Tensor:
    # entry 0 is the decoder's input, entry i the output of layer i - 1, the last one is already restored or normed
    packing = (forward.tokens.segments[0] if index == 0 else forward.tokens.at(index - 1)).packing
    return x if packing is None or x.shape[1] != packing.width else packing.restore(x)


def _full_map(forward: Forward, index: int, x: object) -> object:
    """Attention [B, H, K, keys] of one layer as [B, H, L, cached + L], 0 where a token was dropped."""
    layout, layer = forward.tokens, kv.layer_at(forward.past.cache, index)
    packing = layout.at(index).packing
    if not isinstance(x, Tensor) or (packing is None and not isinstance(layer, kv.Shrunk)):
        return x
    # Padding of short rows points at some dropped column; `_closed` has set its attention to zero, so adding is safe.
    rows = torch.arange(layout.length, device=x.device).expand(x.shape[0], -1) if packing is None else packing.index
    rows = rows.to(x.device)
    columns = rows if layer is None else kv.logical_columns(layer, x.shape[0], x.device)
    columns = columns[:, -x.shape[-1] :]
    x = x[..., : columns.shape[1]]
    total = layout.length if layer is None else int(layer.get_seq_length())
    x = _closed(x, packing)
    wide = x.new_zeros(*x.shape[:3], total)
    wide.scatter_add_(3, columns[:, None, None].expand_as(x), x)
    tall = x.new_zeros(*x.shape[:2], layout.length, total)
    return tall.scatter_add_(2, rows[:, None, :, None].expand_as(wide), wide)


def _closed(x: Tensor, packing: Packing | None) -> Tensor:
    """Attention without the rows of padding, which point at columns that were dropped."""
    if packing is None or packing.valid is None:
        return x
    return x * packing.valid.to(x.device)[:, None, :, None]
