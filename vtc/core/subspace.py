"""Directions that tokens span: the leading one, and what lies outside of those that are already there."""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1024
ROUNDS = 64


def leading_direction(centred: Tensor) -> Tensor:
    """Right singular vector [D] of the largest singular value of [N, D]: exact up to 1,024, else by power iteration."""
    n, d = centred.shape
    if min(n, d) <= SMALL:
        wide = centred.double()
        if d <= n:
            return torch.linalg.eigh(wide.T @ wide).eigenvectors[:, -1].to(centred)
        vector = wide.T @ torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -1]
        return (vector / vector.norm().clamp_min(1e-30)).to(centred)
    vector = centred[centred.square().sum(1).argmax()]
    for _ in range(ROUNDS):
        vector = centred.T @ (centred @ vector)
        vector = vector / vector.norm().clamp_min(1e-30)
    return vector


def residual_to_past(rows: Tensor, history: int | None, ridge: float = 1e-4) -> Tensor:
    """Distance of every row [T, C, D] to the span of the rows of its own place in earlier frames: [T, C].

    Parameters
    ----------
    rows : Tensor [T, C, D]
    history : int or None
        Frames that count; None: all earlier ones. The first frame has its norms.
    ridge : float
        Of the Gram systems, times the mean of their diagonal.
    """
    out = [rows[0].norm(dim=-1)]
    for t in range(1, len(rows)):
        past = rows[max(0, t - (history or t)) : t].transpose(0, 1)
        gram = past @ past.transpose(1, 2)
        scale = gram.diagonal(dim1=1, dim2=2).mean(1)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        gram = gram + (ridge * scale).clamp_min(1e-30)[:, None, None] * eye
        along = (past @ rows[t][:, :, None])[..., 0]
        explained = (along * torch.linalg.solve(gram, along)).sum(1)
        out.append((rows[t].square().sum(1) - explained).clamp_min(0).sqrt())
    return torch.stack(out)


class Span:
    """Orthonormal basis of what was kept so far, and the squared rest of every token [N] outside of it.

    Parameters
    ----------
    rows : Tensor [N, D]
    eps : float
        New directions count above this share of the largest of their frame, in two ways: of the largest new one, and of
        the largest row. Without the second, a basis that has filled up would take in rounding noise.
    """

    def __init__(self, rows: Tensor, eps: float = 1e-4) -> None:
        self.rows, self.eps = rows, eps
        self.energy = rows.square().sum(1)
        self.basis = rows.new_zeros(rows.shape[1], 0)

    def rest(self, index: Tensor) -> Tensor:
        """Distance of the rows ``index`` to the span; 0 where only rounding is left."""
        rest = self.energy[index].clamp_min(0).sqrt()
        # a difference of squares: rounding of eps in them is one of its root here
        noise = max(self.eps, 8 * torch.finfo(rest.dtype).eps ** 0.5)
        return torch.where(rest > noise * self.rows[index].norm(dim=1), rest, 0)

    def add(self, kept: Tensor, frame: Tensor) -> None:
        """Take in the rows ``kept`` of one frame, whose tokens are ``frame``."""
        rows = self.rows[kept]
        rest = rows - rows @ self.basis @ self.basis.T
        q, upper = torch.linalg.qr(rest.T)
        size = upper.diagonal().abs()
        largest = self.rows[frame].norm(dim=1).max()
        new = q[:, (size > self.eps * size.max()) & (size > self.eps * largest)]
        self.basis = torch.cat([self.basis, new], 1)
        self.energy = (self.energy - (self.rows @ new).square().sum(1)).clamp_min(0)
