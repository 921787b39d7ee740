"""Videos: sample and read frames, find the question in a prompt, rate frames for it, plan tokens per frame (QuoTA)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contrastive import ContrastiveScorer
    from .entities import decouple, decoupling_prompt, frame_question, parse_entities
    from .itself import SelfScorer
    from .planning import Plan, plan
    from .query import find_queries
    from .reading import Clip, read_video
    from .sampling import frame_count, frame_times, sample_indices, time_sentence, time_stamps
    from .scorers import ClipScorer, FrameScorer, PictureScorer, as_scorer
    from .vlm import VLMScorer

# name -> module that defines it; imported on first use
_LAZY = {
    "ContrastiveScorer": "contrastive",
    "decouple": "entities",
    "decoupling_prompt": "entities",
    "frame_question": "entities",
    "parse_entities": "entities",
    "SelfScorer": "itself",
    "Plan": "planning",
    "plan": "planning",
    "find_queries": "query",
    "Clip": "reading",
    "read_video": "reading",
    "frame_count": "sampling",
    "frame_times": "sampling",
    "sample_indices": "sampling",
    "time_sentence": "sampling",
    "time_stamps": "sampling",
    "ClipScorer": "scorers",
    "FrameScorer": "scorers",
    "PictureScorer": "scorers",
    "as_scorer": "scorers",
    "VLMScorer": "vlm",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module 'vtc.video' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_LAZY)


__all__ = [
    "Clip",
    "ClipScorer",
    "ContrastiveScorer",
    "FrameScorer",
    "PictureScorer",
    "Plan",
    "SelfScorer",
    "VLMScorer",
    "as_scorer",
    "decouple",
    "decoupling_prompt",
    "find_queries",
    "frame_count",
    "frame_question",
    "frame_times",
    "parse_entities",
    "plan",
    "read_video",
    "sample_indices",
    "time_sentence",
    "time_stamps",
]
