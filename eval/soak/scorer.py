"""A scorer of frames that runs the model itself, as real ones do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def even(handle: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Rate all images of every row alike."""
    token = handle.model.config.image_token_id
    handle.model(input_ids=torch.full((1, 2), 40))
    rows = (inputs["input_ids"] == token).any(1)
    images = [int(((row == token) & (row.roll(1) != token)).sum()) for row in inputs["input_ids"][rows]]
    return [torch.ones(count) for count in images]
