"""Pictures of what a method kept: dimmed tokens, heat maps, merge groups, order; with PIL and numpy alone."""

from __future__ import annotations

from vtc.media.depth import upright
from vtc.media.limits import DRAWING_SIDE as SIDE

from .fate import MODES, Mode, describe, modes
from .geometry import Box, Frames
from .palette import OKABE_ITO, viridis
from .pictures import compare, contact_sheet, overlay, plain, token_at
from .seen import seen

__all__ = [
    "MODES",
    "OKABE_ITO",
    "SIDE",
    "Box",
    "Frames",
    "Mode",
    "compare",
    "contact_sheet",
    "describe",
    "modes",
    "overlay",
    "plain",
    "seen",
    "token_at",
    "upright",
    "viridis",
]
