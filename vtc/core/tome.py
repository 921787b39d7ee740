"""Rounds of bipartite token merging as ToMe does it (arXiv 2210.09461), on whole batches of equal length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Merge:
    """Who goes where in one round: ``target`` LongTensor [B, N] is the output row of every token, of K rows."""

    target: Tensor
    count: int

    def sums(self, x: Tensor) -> Tensor:
        """Sum of the rows of each group: ``[B, N, D] -> [B, K, D]``; tokens with target -1 are in none."""
        inside = self.target >= 0
        index = self.target.clamp_min(0)[..., None].expand_as(x)
        out = x.new_zeros(x.shape[0], self.count, x.shape[2])
        return out.scatter_add(1, index, x * inside[..., None])

    def mean(self, x: Tensor) -> Tensor:
        """Plain mean of each group, in the dtype of ``x``."""
        wide = x if x.dtype == torch.float64 else x.float()
        ones = torch.ones_like(wide[..., :1])
        return (self.sums(wide) / self.sums(ones)).to(x.dtype)

    def weighted(self, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean weighted by how many tokens each row stands for, ``[B, N, 1]``, and the new sizes."""
        size = torch.ones_like(x[..., :1]) if size is None else size
        sizes = self.sums(size)
        return self.sums(x * size) / sizes, sizes

    def source(self, before: Tensor | None = None) -> Tensor:
        """Which original tokens each output row holds: ``[B, K, N]`` of 0 and 1."""
        if before is None:
            before = torch.eye(self.target.shape[1], device=self.target.device).expand(len(self.target), -1, -1)
        return self.sums(before)

    def unmerge(self, rows: Tensor) -> Tensor:
        """Give every token the row of its group: ``[B, K, D] -> [B, N, D]``; tokens in no group get zeros."""
        picked = rows.gather(1, self.target.clamp_min(0)[..., None].expand(-1, -1, rows.shape[2]))
        return picked * (self.target >= 0)[..., None]


def match(metric: Tensor, remove: int, class_token: bool = False, distill_token: bool = False) -> Merge:
    """One round: even tokens look for their most similar odd one; the ``remove`` closest pairs become one.

    Parameters
    ----------
    metric : Tensor [B, N, D]
        Compared by cosine.
    remove : int
        Tokens to lose; at most half of those that are not protected.
    class_token : bool
        Token 0 neither merges nor moves; what stays of the even tokens keeps its order.
    distill_token : bool
        Token 1 takes nothing in and comes second.

    Returns
    -------
    Merge
        Output: even tokens that stay, by falling similarity of their best partner (ascending index with a class
        token), then the odd tokens in order.
    """
    batch, n, _ = metric.shape
    device = metric.device
    remove = max(0, min(remove, (n - class_token - distill_token) // 2))
    if remove == 0:  # without a merge nothing moves either
        return Merge(torch.arange(n, device=device).expand(batch, -1), n)
    best, partner = _partners(metric, class_token, distill_token)
    order = best.argsort(dim=1, descending=True, stable=True)
    merged, stay = order[:, :remove], order[:, remove:]
    if class_token:
        stay = stay.sort(1).values
    odd = n - best.shape[1]
    place = torch.arange(n - remove, device=device).expand(batch, -1)
    if distill_token:  # the two special tokens lead, the other even ones follow, then the other odd ones
        kept = stay.shape[1]
        place = torch.cat([place[:, :1], place[:, 2 : kept + 1], place[:, 1:2], place[:, kept + 1 :]], 1)
    even_place, odd_place = place[:, : stay.shape[1]], place[:, stay.shape[1] :]
    even = torch.empty(batch, best.shape[1], dtype=torch.long, device=device).scatter(1, stay, even_place)
    even.scatter_(1, merged, odd_place.gather(1, partner.gather(1, merged)))
    target = torch.empty(batch, n, dtype=torch.long, device=device)
    target[:, 0::2], target[:, 1::2] = even, odd_place[:, :odd]
    return Merge(target, n - remove)


def _partners(metric: Tensor, class_token: bool, distill_token: bool) -> tuple[Tensor, Tensor]:
    """Similarity and index of the most similar odd token of every even one: both ``[B, ceil(N / 2)]``."""
    unit = _unit(metric)
    similar = unit[:, 0::2] @ unit[:, 1::2].transpose(1, 2)
    if class_token:
        similar[:, 0] = -torch.inf
    if distill_token:
        similar[..., 0] = -torch.inf
    best = similar.max(dim=2)
    return best.values, best.indices


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, at least in fp32; zeros stay zeros."""
    x = x if x.dtype == torch.float64 else x.float()
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def match_every(metric: Tensor, every: int) -> Merge:
    """One round in which the last of each ``every`` tokens takes in the other tokens most similar to it.

    What is left over behind the last full group of ``every`` tokens is dropped.
    """
    batch, n, dim = metric.shape
    groups = n // every
    unit = _unit(metric)
    blocks = unit[:, : groups * every].view(batch, groups, every, dim)
    nearest = (blocks[:, :, :-1].reshape(batch, -1, dim) @ blocks[:, :, -1].transpose(1, 2)).argmax(2)
    own = torch.arange(groups, device=metric.device).expand(batch, -1)[..., None]
    target = torch.cat([nearest.view(batch, groups, every - 1), own], 2).reshape(batch, -1)
    return Merge(torch.nn.functional.pad(target, (0, n - groups * every), value=-1), groups)


def merge_down(x: Tensor, count: int, lead: int | None = None) -> Tensor:
    """Rounds of plain means until ``count`` rows are left: ``[B, N, D] -> [B, count, D]``.

    Every round forgets how many tokens a row stands for, as the published code does. Only the first ``lead`` channels
    (None: all) decide who merges.
    """
    while x.shape[1] > count:
        n = x.shape[1]
        x = match(x[..., :lead], min(n - count, n // 2)).mean(x)
    return x
