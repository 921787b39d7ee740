"""QuoTA: every frame of a video gets tokens in proportion to how well it answers the question."""

from .method import Quota

__all__ = ["Quota"]
