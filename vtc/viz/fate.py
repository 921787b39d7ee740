"""What became of every token of a record, as arrays for painting and as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Mode = Literal["kept", "scores", "groups", "order"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Fate:
    """Fate of the n tokens of one image.

    Attributes
    ----------
    kept, merged : bool array [n]
        Survived every cut; gave its features to another token that did.
    scores : float array [n] or None
        NaN where a method did not look.
    groups : int array [n] or None
        Merge group, -1 dropped.
    """

    kept: np.ndarray
    merged: np.ndarray
    scores: np.ndarray | None
    groups: np.ndarray | None

    @classmethod
    def of(cls, record: Any) -> Fate:
        """Read an entry of ``handle.last.images``."""
        kept = np.zeros(record.unit.length, dtype=bool)
        kept[record.kept.numpy()] = True
        groups = None if record.groups is None else record.groups.numpy()
        scores = None if record.scores is None else record.scores.float().numpy()
        merged = np.zeros_like(kept) if groups is None else (groups >= 0) & ~kept
        return cls(kept, merged, scores, groups)

    @property
    def ranks(self) -> np.ndarray:
        """Rank in [0, 1] of every score, 1 the best, NaN without one.

        Selection goes by rank, and one outlier would turn a linear scale all dark.
        """
        assert self.scores is not None
        known = np.isfinite(self.scores)
        ranks = np.full(len(self.scores), np.nan)
        ordered = self.scores[known].argsort(kind="stable").argsort(kind="stable")
        ranks[known] = ordered / max(known.sum() - 1, 1)
        return ranks

    @property
    def order(self) -> np.ndarray:
        """Turn of every kept token, 1 the best score, 0 for all others: int [n]."""
        assert self.scores is not None
        candidates = np.flatnonzero(self.kept & np.isfinite(self.scores))
        turn = np.zeros(len(self.scores), dtype=int)
        turn[candidates[np.argsort(-self.scores[candidates], kind="stable")]] = np.arange(len(candidates)) + 1
        return turn


def modes(record: Any) -> tuple[Mode, ...]:
    """Pictures that make sense for a record: no heat map without scores, no groups without merging."""
    found: list[Mode] = ["kept"]
    if record.scores is not None:
        found += ["scores", "order"]
    if record.groups is not None:
        found.append("groups")
    return tuple(mode for mode in MODES if mode in found)


def check_mode(record: Any, mode: str) -> None:
    """Raise a ValueError for an unknown mode or one the record has nothing for."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not allowed; choose one of {', '.join(map(repr, MODES))}.")
    if mode not in modes(record):
        lacks = "merges no tokens" if mode == "groups" else "gives no scores"
        fitting = ", ".join(repr(m) for m in modes(record))
        raise ValueError(f"This method {lacks}, so mode={mode!r} has nothing to show; use mode={fitting}.")


def describe(record: Any, token: int) -> dict[str, Any]:
    """Where a token lies and what became of it.

    Parameters
    ----------
    record : ImageRecord
    token : int
        Index inside the image, ``0 <= token < record.before``.

    Returns
    -------
    dict
        ``token, part, row, col, kept, score, rank, of, into, members``: rank 1 is the best of ``of`` scored tokens;
        ``into`` is the token that took its features in, ``members`` how many tokens it holds itself. None: unknown.

    Raises
    ------
    ValueError
        No such token.
    """
    if not 0 <= token < record.before:
        raise ValueError(f"token={token} does not exist: this image has tokens 0 to {record.before - 1}.")
    unit, fate = record.unit.filled(), Fate.of(record)
    part, cell = int(unit.part[token]), int(unit.cell[token])
    width = unit.part_grids[part][1]
    found: dict[str, Any] = {"token": token, "part": part, "kept": bool(fate.kept[token])}
    found |= {"row": cell // width if cell >= 0 else None, "col": cell % width if cell >= 0 else None}
    found |= {"score": None, "rank": None, "of": None, "into": None, "members": None}
    if fate.scores is not None and np.isfinite(fate.scores[token]):
        known = fate.scores[np.isfinite(fate.scores)]
        found["score"] = float(fate.scores[token])
        found |= {"rank": int((known > fate.scores[token]).sum()) + 1, "of": len(known)}
    if fate.groups is not None and fate.groups[token] >= 0:
        same = np.flatnonzero(fate.groups == fate.groups[token])
        if fate.kept[token]:
            found["members"] = len(same)
        else:
            found["into"] = next((int(t) for t in same if fate.kept[t]), None)
    return found
