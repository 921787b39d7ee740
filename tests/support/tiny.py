"""The product's tiny models under the names the tests use."""

from __future__ import annotations

from vtc.proof.models import Case, all_cases
from vtc.proof.models.parts import (
    BOS,
    EOS,
    IMG,
    PAD,
    SPECIAL,
    TEXT,
    VE,
    VID,
    VISION,
    VOCAB,
    VS,
    Inputs,
    decoder_config,
    lively,
    noise,
    pad_rows,
)

CASES = {name: case for name, case in all_cases().items() if case.family in ("llava", "qwen2_5_vl")}
GENERATE = dict(max_new_tokens=6, do_sample=False, suppress_tokens=SPECIAL)


def batch(case: Case, side: str = "left") -> Inputs:
    return case.batch(side)


def alone(case: Case, index: int) -> Inputs:
    return case.alone(index)


__all__ = [
    "BOS", "CASES", "EOS", "GENERATE", "IMG", "PAD", "SPECIAL", "TEXT", "VE", "VID", "VISION", "VOCAB", "VS", "Case",
    "alone", "batch", "decoder_config", "lively", "noise", "pad_rows",
]  # fmt: skip
