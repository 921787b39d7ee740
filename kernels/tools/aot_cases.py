"""Launches to compile ahead of time: the real launchers run on CPU tensors while their kernels only take notes."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ..assign import triton as assign
from ..attention import triton as attention
from ..attention._geometry import geometry_of
from ..greedy import triton as greedy
from ..merge import triton as merge
from ..pack import triton as pack
from ..topk import triton as topk
from ..transition import triton as transition

TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
}
KERNELS = {
    topk: ("topk_kernel",),
    assign: ("assign_kernel",),
    merge: ("order_kernel", "means_kernel"),
    greedy: ("panel_kernel", "pick_kernel"),
    attention: ("log_sum_kernel", "column_kernel", "rows_kernel"),
    transition: ("transition_kernel", "share_kernel"),
    pack: ("pack_kernel", "mask_kernel"),
}


@dataclass
class Launched:
    """One noted launch: the kernel, its typed arguments, and the options of the compiler."""

    kernel: Any
    label: str
    signature: dict[str, Any]
    constants: dict[tuple[int, ...], Any]
    attributes: dict[tuple[int, ...], list[list[Any]]]
    options: dict[str, int]


class Recorder:
    """Stands in for a kernel: ``recorder[grid](...)`` notes the launch instead of running it."""

    def __init__(self, kernel: Any, label: str, notes: list[Launched]) -> None:
        self.kernel, self.label, self.notes = kernel, label, notes

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._note

    def _note(self, *args: Any, **kwargs: Any) -> None:
        names = self.kernel.arg_names
        options: dict[str, int] = {k: kwargs.pop(k) for k in ("num_warps", "num_stages") if k in kwargs}
        note = Launched(self.kernel, f"{self.kernel.__name__} {self.label}", {}, {}, {}, options)
        for i, value in enumerate(args):
            note.signature[names[i]] = _specialize(note, (i,), value)
        for name, value in kwargs.items():
            note.signature[name] = "constexpr"
            note.constants[(names.index(name),)] = value
        self.notes.append(note)


def _specialize(note: Launched, path: tuple[int, ...], value: Any) -> Any:
    """Type of one argument as the runtime would see it: ones are constants, multiples of 16 are marked."""
    if isinstance(value, tuple):
        return tuple(_specialize(note, (*path, i), v) for i, v in enumerate(value))
    if isinstance(value, float):
        return "fp32"
    if isinstance(value, int) and value == 1:
        note.constants[path] = 1
        return "constexpr"
    if (value.data_ptr() if isinstance(value, Tensor) else value) % 16 == 0:
        note.attributes[path] = [["tt.divisibility", 16]]
    if isinstance(value, Tensor):
        return "*" + TYPES[value.dtype]
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def launches() -> list[Launched]:
    """Note one launch of every kernel for every dtype and shape worth a row of the table."""
    notes: list[Launched] = []
    for label, run in _calls():
        with ExitStack() as stack:
            for module, names in KERNELS.items():
                for name in names:
                    stack.enter_context(mock.patch.object(module, name, Recorder(getattr(module, name), label, notes)))
            run()
    return notes


def _calls() -> Iterator[tuple[str, Callable[[], Any]]]:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        yield f"{TYPES[dtype]}", partial(_token_kernels, dtype)
        for depth in (64, 72, 128, 256):
            yield f"{TYPES[dtype]} d={depth}", partial(_attention, dtype, depth)
    yield (
        "u8",
        lambda: pack.pack_mask_triton(
            torch.ones(1, 1, 577, 577, dtype=torch.bool),
            torch.zeros(1, 64, dtype=torch.int64),
            torch.ones(1, 64) > 0,
            0,
        ),
    )


def _token_kernels(dtype: torch.dtype, n: int = 2880, k: int = 288, depth: int = 1024) -> None:
    x, scores, ids = torch.zeros(1, n, depth, dtype=dtype), torch.zeros(1, n), torch.zeros(3, 1, n, dtype=torch.int64)
    valid, count = torch.full((1,), n, dtype=torch.int32), torch.full((1,), k, dtype=torch.int32)
    index = torch.arange(k)[None]
    topk.topk_triton(scores.to(dtype), count, valid, k)
    assign.assign_triton(x, x[:, :k], valid, count, False)
    merge.group_means_triton(x, torch.zeros(1, n, dtype=torch.int64), scores, k)
    greedy.greedy_triton(x, count, valid, torch.zeros(1, dtype=torch.int64), dtype != torch.float16, k, False)
    transition.transition_triton(x, x, scores == 0, False)
    table = torch.zeros(1, n, 128, dtype=dtype)
    pack.pack_rows_triton([x, table, table, scores == 0, ids], index, [1, 1, 1, 1, 2])
    pack.pack_mask_triton(torch.zeros(1, 1, 577, 577, dtype=dtype), index, torch.ones(1, k) > 0, 0)


def _attention(dtype: torch.dtype, depth: int, n: int = 2880) -> None:
    q, k = torch.zeros(1, 4, n, depth, dtype=dtype), torch.zeros(1, 2, n, depth, dtype=dtype)
    geometry = geometry_of(q, k, weights=torch.ones(1, n), causal=True, key_mask=torch.ones(1, n) > 0)
    attention.attention_triton(q, k, geometry, True, torch.zeros(1, 64, dtype=torch.int64))
