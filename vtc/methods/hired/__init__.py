"""HiRED: share one budget between a full image and its tiles by attention."""

from .method import HiRED

__all__ = ["HiRED"]
