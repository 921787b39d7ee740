"""What differs between the two embedded models, in one place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vtc.eval.scenes import IMAGE_FAMILIES

from . import canvas, llava, qwen, qwen_config
from .pool import llava_sample
from .processors import llava_processor, qwen_processor
from .qwen_pool import QWEN_FAMILIES, qwen_sample
from .vocabulary import LLAVA, QWEN, Vocabulary


@dataclass(frozen=True)
class Spec:
    """One model.

    Parameters
    ----------
    families : tuple of str
        Families of its questions.
    vocabulary : Vocabulary
    sample : callable
        ``sample(seed, crowded=False)`` renders one training sample.
    prepare : callable
        Turns stored pixels into what the trainee takes.
    model : callable
        Builds the untrained model.
    trainee : callable
        ``trainee(model, slots)``.
    processor : callable
    """

    families: tuple[str, ...]
    vocabulary: Vocabulary
    sample: Callable[..., dict[str, np.ndarray]]
    prepare: Callable[[torch.Tensor], torch.Tensor]
    model: Callable[[], Any]
    trainee: Callable[[Any, int], torch.nn.Module]
    processor: Callable[[], Any]


def _llava() -> Any:
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration(llava.build_config())


def _qwen() -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration(qwen_config.build_config())


SPECS: dict[str, Spec] = {
    "tiny-llava": Spec(
        IMAGE_FAMILIES,
        LLAVA,
        functools.partial(llava_sample, vocabulary=LLAVA, side=llava.SIDE, grid=llava.GRID, slot=llava.SLOT),
        llava.prepare_pixels,
        _llava,
        llava.LlavaTrainee,
        llava_processor,
    ),
    "tiny-qwen2_5-vl": Spec(
        QWEN_FAMILIES, QWEN, qwen_sample, canvas.prepare_patches, _qwen, qwen.QwenTrainee, qwen_processor
    ),
}
"""The embedded models by name."""
