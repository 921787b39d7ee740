"""Triton side of :func:`vtc.kernels.greedy_diverse`: panels of similarities, and a program per row that picks.

After the picks p_1 .. p_t the state of token i is ``s_i = sum_t cos(x_i, x_{p_t})`` (max_sum) or the maximum of these
(k_center); the next pick is the free token of least state. x [B, N, D] is fp32, bf16 or fp16 with any strides, cosines
and states are fp32. Sources: ToDRE v2 (arXiv 2505.18757), DivPrune (arXiv 2503.02175).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dispatch import interpreting, tile_limit
from .._ragged import power_of_two
from .._tiles import inverse_lengths, product_tile
from ..topk import topk_select

# similarities of all tokens with all tokens are one panel as long as they fit here; beyond it, panels of candidates
PANEL_BYTES = 256 * 2**20
SMALLEST_PANEL = 512


@triton.jit
def panel_kernel(
    x, scale, picks, panel, columns, slots, depth, x_b, x_n, x_d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (j, i, b): cosines of a tile of chosen tokens with a tile of all tokens."""
    row = tl.program_id(2).to(tl.int64)
    slot = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    column_ok = column < columns
    pick = tl.load(picks + row * slots + slot, mask=slot < slots, other=-1)
    pick_ok = pick >= 0
    x += row * x_b
    product = product_tile(
        x, x, pick, column, pick_ok, column_ok, depth, x_n, x_d, x_n, x_d, ROWS, COLUMNS, BLOCK_D, WIDEN
    )
    scale += row * columns
    left = tl.load(scale + pick, mask=pick_ok, other=0.0)
    right = tl.load(scale + column, mask=column_ok, other=0.0)
    at = panel + (row * slots + slot)[:, None] * columns + column[None, :]
    tl.store(at, product * left[:, None] * right[None, :], mask=pick_ok[:, None] & column_ok[None, :])


@triton.jit
def pick_kernel(
    panel, place, state, pending, pending_value, progress, count, order, value, columns, slots, width,
    ADDITIVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program b: pick until the row has its count or the next pick is not in the panel, which it leaves pending."""
    row = tl.program_id(0).to(tl.int64)
    panel += row * slots * columns
    place += row * (columns + 1)
    state += row * columns
    total = tl.load(count + row)
    done = tl.load(progress + row)
    pick = tl.load(pending + row)
    low = tl.load(pending_value + row)
    slot = tl.load(place + pick)
    while (done < total) & (slot >= 0):
        tl.store(order + row * width + done, pick)
        tl.store(value + row * width + done, low)
        done += 1
        similar = panel + slot.to(tl.int64) * columns
        least = tl.full([BLOCK], float("inf"), tl.float32)
        least_at = tl.full([BLOCK], 0, tl.int32) + (columns - 1)
        for start in range(0, columns, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < columns
            s = tl.load(state + column, mask=inside, other=float("inf"))
            new = tl.load(similar + column, mask=inside, other=0.0)
            s = s + new if ADDITIVE else tl.maximum(s, new)
            s = tl.where(column == pick, float("inf"), s)
            tl.store(state + column, s, mask=inside)
            # strictly less: the lower column stays on a tie
            less = s < least
            least_at = tl.where(less, column, least_at)
            least = tl.where(less, s, least)
        low = tl.min(least, 0)
        pick = tl.min(tl.where(least == low, least_at, columns - 1), 0).to(tl.int64)
        slot = tl.load(place + pick)
        # the next round reads the state that other threads wrote if the compiler lays it out anew
        tl.debug_barrier()
    tl.store(progress + row, done)
    tl.store(pending + row, pick)
    tl.store(pending_value + row, low)


def panel_rows(batch: int, columns: int) -> int:
    """Rows of a panel: all tokens when that fits in ``PANEL_BYTES``, else as many as fit, at least 512."""
    fitting = PANEL_BYTES // (4 * max(batch * columns, 1)) // 64 * 64
    return min(columns, max(fitting, SMALLEST_PANEL))


def greedy_triton(
    x: Tensor, count: Tensor, valid: Tensor, first: Tensor, additive: bool, width: int, normalized: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch panels and picks; arguments and results as in :func:`vtc.kernels.greedy.gram.greedy_torch`.

    Where a panel has fewer rows than there are tokens, the host reads one flag back per panel.
    """
    batch, columns, _ = x.shape
    device = x.device
    rows = panel_rows(batch, columns)
    scale = inverse_lengths(x, normalized)
    state = torch.full((batch, columns), 0.0 if additive else -torch.inf, device=device)
    state.masked_fill_(torch.arange(columns, device=device) >= valid[:, None], torch.inf)
    order = torch.full((batch, width), -1, dtype=torch.int64, device=device)
    value = torch.zeros(batch, width, dtype=torch.float32, device=device)
    pending = first.to(torch.int64).clone()
    pending_value = torch.zeros(batch, dtype=torch.float32, device=device)
    progress = torch.zeros(batch, dtype=torch.int32, device=device)
    everything = rows >= columns
    picks = torch.arange(columns, device=device).expand(batch, -1) if everything else pending[:, None]
    while True:
        similar = _panel(x, scale, picks.contiguous())
        pick_kernel[(batch,)](
            similar, _places(picks, columns), state, pending, pending_value, progress, count, order, value,
            columns, picks.shape[1], width, ADDITIVE=additive, BLOCK=power_of_two(columns, 16, 4096), num_warps=8,
        )  # fmt: skip
        if everything or not bool((progress < count).any()):
            return order, value, state
        # the pending pick goes first, so that every panel makes progress
        best = topk_select(-state, rows - 1).index
        picks = torch.cat([pending[:, None], best], 1)


def _panel(x: Tensor, scale: Tensor, picks: Tensor) -> Tensor:
    batch, columns, depth = x.shape
    slots = picks.shape[1]
    panel = torch.empty(batch, slots, columns, dtype=torch.float32, device=x.device)
    wide = x.dtype == torch.float32
    largest = tile_limit(64 if wide else 128)
    tall = power_of_two(slots, 16, largest)
    across = power_of_two(columns, 16, largest)
    panel_kernel[(triton.cdiv(columns, across), triton.cdiv(slots, tall), batch)](
        x, scale, picks, panel, columns, slots, depth, *x.stride(),
        ROWS=tall, COLUMNS=across, BLOCK_D=power_of_two(depth, 16, 32 if wide else 64), WIDEN=interpreting(),
        num_warps=4 if wide else 8,
    )  # fmt: skip
    return panel


def _places(picks: Tensor, columns: int) -> Tensor:
    """Invert ``picks``: panel row of every token or -1, int32 [B, N + 1]; the spare column takes the -1 entries."""
    place = torch.full((picks.shape[0], columns + 1), -1, dtype=torch.int32, device=picks.device)
    slot = torch.arange(picks.shape[1], dtype=torch.int32, device=picks.device).expand_as(picks)
    return place.scatter_(1, torch.where(picks < 0, columns, picks), slot)
