"""The product's tiny models of all families under the names the tests use."""

from __future__ import annotations

from vtc.proof.models import all_cases, too_old
from vtc.proof.models.parts import SIDE
from vtc.proof.models.pieces import PINPOINTS

from support import tiny

ALL = all_cases()
FAMILIES = {name: case for name, case in ALL.items() if name not in tiny.CASES}
OLD = set(too_old())
"""Families that need a newer transformers than the one installed."""
POLICIES = {"pi0"}
"""Families that give actions, not text: their matrix is in ``matrix/test_policies``."""

__all__ = ["ALL", "FAMILIES", "OLD", "PINPOINTS", "POLICIES", "SIDE"]
