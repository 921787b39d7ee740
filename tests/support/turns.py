"""A second turn on the cache of the first."""

from __future__ import annotations

import pytest
import torch

from support import tiny


def second_turn(model, turn, more, cache, past):
    inputs = {k: v for k, v in more.items() if k not in turn}
    positions = None
    if "mm_token_type_ids" in turn:
        pytest.importorskip("transformers")
        grids = torch.cat([tiny.alone(tiny.CASES["qwen2_5_vl"], 0)["image_grid_thw"], more["image_grid_thw"]])
        positions, _ = model.model.get_rope_index(
            turn["input_ids"],
            mm_token_type_ids=turn["mm_token_type_ids"],
            image_grid_thw=grids,
            attention_mask=turn["attention_mask"],
        )
        positions = positions[:, :, past:]
    ids = turn["input_ids"][:, past:]
    out = model(
        input_ids=ids, attention_mask=turn["attention_mask"], position_ids=positions, past_key_values=cache, **inputs
    )
    return out.logits[:, -2:]
