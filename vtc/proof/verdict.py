"""What a proof found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from ..version import versions as current_versions

Outcome = Literal["holds", "differs", "refused"]
_WORST: tuple[Outcome, ...] = ("differs", "refused", "holds")


@dataclass(frozen=True)
class Finding:
    """One obligation on one set-up with one way to prune.

    Attributes
    ----------
    obligation : str
        See :data:`vtc.proof.OBLIGATIONS`.
    setup, method : str
        Tiny model and what pruned it.
    outcome : {"holds", "differs", "refused"}
        ``refused``: does not apply here, ``reason`` says why.
    difference : float or None
        Largest difference, relative to the largest value; None where nothing could be compared.
    tolerance : float
        What is allowed.
    seconds : float
    reason : str
        Why it was refused, or what went wrong.
    """

    obligation: str
    setup: str
    method: str
    outcome: Outcome
    difference: float | None = None
    tolerance: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        size = "" if self.difference is None else f" by {self.difference:.1e} (allowed {self.tolerance:.0e})"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.obligation} {self.outcome} on {self.setup}, {self.method}{size}{why}"


@dataclass(frozen=True)
class Verdict:
    """All findings on a family.

    Attributes
    ----------
    family : str
    findings : list of Finding
    seconds : float
    versions : dict of str to str
        Of vtc, torch and transformers.
    note : str
        What else to know, such as that another family stood in.
    """

    family: str
    findings: list[Finding]
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=current_versions)
    note: str = ""

    @property
    def holds(self) -> bool:
        """Nothing differs, and something was compared."""
        outcomes = {f.outcome for f in self.findings}
        return "differs" not in outcomes and "holds" in outcomes

    @property
    def differing(self) -> list[Finding]:
        """Findings that differ."""
        return [f for f in self.findings if f.outcome == "differs"]

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Per obligation its worst outcome, largest difference, seconds, and all reasons."""
        found = {}
        for name in dict.fromkeys(f.obligation for f in self.findings):
            mine = [f for f in self.findings if f.obligation == name]
            sizes = [f.difference for f in mine if f.difference is not None]
            found[name] = {
                "outcome": next(o for o in _WORST if any(f.outcome == o for f in mine)),
                "held": sum(f.outcome == "holds" for f in mine),
                "of": len(mine),
                "difference": max(sizes, default=None),
                "seconds": sum(f.seconds for f in mine),
                "reasons": list(dict.fromkeys(f.reason for f in mine if f.reason)),
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; infinite differences (another shape, NaN) are the string "inf"."""
        plain = {**asdict(self), "holds": self.holds, "obligations": self.outcomes()}
        for entry in [*plain["findings"], *plain["obligations"].values()]:
            if entry["difference"] == float("inf"):
                entry["difference"] = "inf"
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """Read what :meth:`to_dict` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is something else.
        """
        findings = []
        for entry in data["findings"]:
            size = entry["difference"]
            findings.append(Finding(**{**entry, "difference": None if size is None else float(size)}))
        return cls(data["family"], findings, float(data["seconds"]), dict(data["versions"]), str(data["note"]))


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value; infinite for another shape or NaN."""
    if found.shape != expected.shape:
        return float("inf")
    if found.numel() == 0:
        return 0.0
    found, expected = found.double(), expected.double()
    size = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    return size if size == size else float("inf")
