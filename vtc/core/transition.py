"""Token transition: how much a module changes the length and the direction of every token (TransPrune)."""

from vtc.kernels import Direction
from vtc.kernels import token_transition as transition

__all__ = ["Direction", "transition"]
