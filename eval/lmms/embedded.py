"""Embedded models as checkpoints that a class of lmms-eval can load."""

from __future__ import annotations

from typing import Any

from vtc.demos.embedded import EMBEDDED

from .bases import GENERIC


def arguments(name: str) -> dict[str, Any]:
    """Arguments with which the base class answers as ``vtc eval quality`` does: same weights, float32, same prompt.

    tiny-qwen2_5-vl goes through the generic base, because lmms-eval's own Qwen classes run in bfloat16 and enlarge
    small pictures.
    """
    import torch

    torch.set_num_threads(1)  # too small to gain from more threads, which only wait for one another
    entry = EMBEDDED[name]
    found = {"pretrained": str(entry.path), "dtype": "float32"}
    return found | {"base": GENERIC} if entry.videos else found
