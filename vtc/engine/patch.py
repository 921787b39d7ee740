"""What the parts of a patch ask of the handle they serve."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from .forward import Forward
from .loose import Loose
from .plan import Plan
from .record import CallRecord
from .wrapping import Wrapped


class Patch(Protocol):
    """A handle, as its spans and listeners see it."""

    loose: Loose

    @property
    def off(self) -> bool:
        """True where calls run the plain model."""

    @property
    def given_scores(self) -> Any:
        """Scores of frames that hold here."""

    def plan(self) -> Plan:
        """Methods and stages as they stand now."""

    def call(self, device: torch.device, seat: Wrapped) -> AbstractContextManager[Forward]:
        """One forward, from its start to its end."""

    def disabled(self) -> AbstractContextManager[None]:
        """Run the plain model inside."""

    def note(self, record: CallRecord) -> None:
        """Take the record of a prefill."""

    def row_state(self, row: int) -> dict:
        """What methods remember of a row."""
