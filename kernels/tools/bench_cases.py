"""What ``python -m vtc.kernels.bench`` times: each kernel, its reference, and the form in which papers publish it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import attention_stats, greedy_diverse, merge_tokens, pack_rows, token_transition, topk_select
from ..attention.naive import attention_published
from ..greedy.naive import greedy_published
from ..merge.naive import merge_published
from ..transition.naive import transition_torch

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Parameters
    ----------
    name, size : str
    traffic : int
        Bytes that must be read and written at least.
    run : callable
        The public function; ``VTC_KERNELS`` decides what it takes.
    naive : callable or None
        The published form; None where it does not fit in memory.
    """

    name: str
    size: str
    traffic: int
    run: Run
    naive: Run | None = None


def cases(device: torch.device, dtype: torch.dtype, small: bool) -> Iterator[Case]:
    """Yield the cases; ``small`` leaves out the sizes that only a GPU finishes."""
    shapes = [(1, 2880, 288, 4096), (8, 2880, 288, 4096), (1, 16384, 1638, 4096)]
    for batch, n, k, depth in [(1, 577, 64, 1024)] if small else shapes:
        x, y = (torch.randn(batch, n, depth, device=device, dtype=dtype) for _ in range(2))
        yield from token_cases(x, y, k)
    for heads, n, depth in [(4, 577, 64)] if small else [(16, 577, 64), (32, 2880, 128), (32, 16384, 128)]:
        yield from attention_cases(torch.randn(2, 1, heads, n, depth, device=device, dtype=dtype))


def token_cases(x: Tensor, y: Tensor, k: int) -> Iterator[Case]:
    """Yield the cases over token features ``x`` and layer outputs ``y`` [B, N, D]."""
    batch, n, depth = x.shape
    size, row = f"B={batch} N={n} K={k} D={depth}", depth * x.element_size()
    scores = torch.rand(batch, n, device=x.device)
    index = scores.topk(k, 1).indices.sort(1).values
    first = scores.argmax(1)
    tables = [x, *torch.randn(2, 1, n, 128, device=x.device, dtype=x.dtype)]
    tables = [tables[0], tables[1].expand(batch, -1, -1), tables[2].expand(batch, -1, -1)]
    yield Case(
        "topk_select", size, batch * (4 * n + 8 * k), lambda: topk_select(scores, k),
        lambda: scores.topk(k, 1).indices.sort(1).values,
    )  # fmt: skip
    yield Case(
        "pack_rows", size, 2 * batch * k * (row + 2 * 128 * x.element_size()), lambda: pack_rows(tables, index),
        lambda: [t.gather(1, index[..., None].expand(-1, -1, t.shape[2])) for t in tables],
    )  # fmt: skip
    yield Case(
        "token_transition", size, 2 * batch * n * row, lambda: token_transition(x, y),
        lambda: transition_torch(x, y, None, False),
    )  # fmt: skip
    yield Case(
        "merge_tokens", size, batch * (2 * n + 2 * k) * row, lambda: merge_tokens(x, index),
        lambda: merge_published(x, index),
    )  # fmt: skip
    naive = (lambda: greedy_published(x[0], k, int(first))) if batch == 1 else None
    yield Case("greedy_diverse", size, batch * n * row, lambda: greedy_diverse(x, k, first), naive)


def attention_cases(qk: Tensor) -> Iterator[Case]:
    """Yield the cases over queries and keys [2, 1, H, N, d]."""
    q, k = qk
    _, heads, n, depth = q.shape
    size, traffic = f"H={heads} N={n} d={depth}", 4 * q.numel() * q.element_size()
    rows = torch.arange(n - min(n, 32), n, device=q.device)[None]
    naive = (lambda: attention_published(q, k, causal=True).mean((1, 2))) if n <= 4096 else None
    yield Case("attention_stats received", size, traffic, lambda: attention_stats(q, k, causal=True), naive)
    yield Case(
        "attention_stats rows", size, traffic // 2,
        lambda: attention_stats(q, k, received=False, rows=rows, causal=True),
        naive,
    )  # fmt: skip
    attend = torch.nn.functional.scaled_dot_product_attention
    yield Case("(one SDPA forward, to compare)", size, traffic, lambda: attend(q, k, k, is_causal=True))
