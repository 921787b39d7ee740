"""VFlowOpt: prune thrice by what the globally attended tokens attend to, recycle the rest."""

from .method import VFlowOpt

__all__ = ["VFlowOpt"]
