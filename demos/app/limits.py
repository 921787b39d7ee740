"""What the demo accepts: it is safe to leave running. Every limit holds for the API as it does on the page."""

from __future__ import annotations

MIB = 2**20
MAX_FILE = 20 * MIB
"""Bytes of an upload."""
MAX_KEPT = 500 * MIB
"""Bytes of all temporary files together, uploads and drawn pictures; the oldest go first."""
MAX_KEPT_FILES = 2000
MAX_UPLOADS = 4
"""Uploads at a time; further ones are told to come back."""
MAX_REQUEST = 256 * 1024
"""Bytes of a request that is no upload."""
MAX_SESSIONS = 64
"""Sessions whose picture and choices are remembered; the oldest go first."""
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
MAX_OPTION = 500
"""Characters of a hyperparameter that is typed."""
LEAST_KEEP = 0.02
"""The smallest share of the visual tokens."""
MAX_NEW_TOKENS = 64
QUEUE = 20
"""Requests that wait; further ones are told to come back."""
KEEP_SECONDS = 3600
"""Age at which temporary files and the memory of a session go."""
SWEEP_SECONDS = 600
"""How often old files are looked for."""
