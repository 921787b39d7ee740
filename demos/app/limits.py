"""What the demo accepts: it is safe to leave running."""

from __future__ import annotations

MAX_FILE = "20mb"
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded."""
MAX_FRAME_PIXELS = 4096 * 2304
"""So are films with larger frames."""
MAX_SIDE = 2048
"""Larger pictures are scaled down."""
MAX_MEMORY = 2 << 30
"""Bytes of the process that reads an upload."""
READ_SECONDS = 30
"""Time it has."""
MAX_SECONDS = 60
FRAMES = 8
FRAME_SIDE = 768
MAX_QUESTION = 500
"""Characters."""
MAX_NEW_TOKENS = 64
QUEUE = 20
"""Requests that wait; further ones are told to come back."""
KEEP_SECONDS = 3600
"""Age at which temporary files and the memory of a session go."""
SWEEP_SECONDS = 600
"""How often old files are looked for."""
