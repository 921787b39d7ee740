"""Plain torch of :func:`vtc.kernels.pack_rows` and :func:`vtc.kernels.pack_mask`: gathers."""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import closing_values


def pack_torch(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Gather along ``dim`` of one tensor; its batch is dimension ``dim - 1``, a batch of one is broadcast."""
    if index.shape[0] == 1:
        # copies whole rows, where a gather reads an index for every element
        return x.index_select(dim, index[0])
    if x.shape[dim - 1] == 1:
        x = x.expand(*x.shape[: dim - 1], index.shape[0], *x.shape[dim:])
    view = index.view(*([1] * (dim - 1)), *index.shape, *([1] * (x.ndim - dim - 1)))
    return torch.gather(x, dim, view.expand(*x.shape[:dim], index.shape[1], *x.shape[dim + 1 :]))


def pack_mask_torch(mask: Tensor, index: Tensor, valid: Tensor | None, past: int) -> Tensor:
    """Gather queries and new keys of ``mask`` [B or 1, H, L, past + L], then close the padding."""
    (batch, kept), heads = index.shape, mask.shape[1]
    mask = mask.expand(batch, *mask.shape[1:])
    mask = mask.gather(2, index[:, None, :, None].expand(-1, heads, -1, mask.shape[3]))
    new = mask[..., past:].gather(3, index[:, None, None, :].expand(-1, heads, kept, -1))
    if valid is not None:
        shut, seen = closing_values(mask.dtype)
        new = new.masked_fill(valid[:, None, :, None] & ~valid[:, None, None, :], shut)
        # a padding row must see something: a softmax of nothing is NaN, which poisons nothing but looks like a bug
        own = torch.eye(kept, dtype=torch.bool, device=mask.device) & ~valid[:, None, :, None]
        new = new.masked_fill(own, seen)
    return torch.cat([mask[..., :past], new], -1)
