"""What the YAML files of our tasks call: from a document to the prompt, the pictures and the score."""

from __future__ import annotations

from typing import Any

from vtc.eval.quality import normalise

METRIC = "exact"


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Give the picture (RGB), or the path of the video file."""
    return [doc["video"]] if doc.get("video") else [doc["image"].convert("RGB")]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, str] | None = None) -> str:
    """Give the question, between the texts a model-specific prompt may put around it."""
    around = lmms_eval_specific_kwargs or {}
    return around.get("pre_prompt", "") + doc["question"] + around.get("post_prompt", "")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score one answer: 1 when it is the known one in the form of :func:`vtc.eval.quality.normalise`."""
    return {METRIC: float(normalise(results[0]) == normalise(doc["answer"]))}
