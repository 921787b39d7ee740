"""One checker per kind of golden file: ``check(arrays)``, raising AssertionError with what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch

import numpy as np

from . import hired, todre, transprune, vflowopt, vla_pruner, vtc_cls

Arrays = Mapping[str, np.ndarray]

CHECKERS: dict[str, Callable[[Arrays], None]] = {
    "vtc_cls_full": vtc_cls.full,
    "vtc_cls_rows576": vtc_cls.rows,
    "vtc_cls_batch": vtc_cls.batch,
    "vtc_cls_qk": vtc_cls.queries_and_keys,
    "vtc_cls_clip": vtc_cls.clip,
    "hired_single": hired.single,
    "hired_anyres2x2": hired.anyres,
    "hired_anyres_mixed": hired.anyres,
    "hired_anyres_pad": hired.anyres,
    "hired_anyres_clamp": hired.anyres,
    "hired_clip": hired.clip,
    "todre_stage1": todre.stage1,
    "todre_pivot": todre.pivot,
    "todre_stage2": todre.stage2,
    "transprune_ttv": transprune.ttv,
    "transprune_stage": transprune.stage,
    "transprune_e2e": transprune.end_to_end,
    "vflowopt_entropy": vflowopt.entropy,
    "vflowopt_importance": vflowopt.importance,
    "vflowopt_recycle": vflowopt.recycled,
    "vflowopt_topk": vflowopt.topk,
    "vflowopt_pipeline": vflowopt.pipeline,
    "vflowopt_stages": vflowopt.stages,
    "vla_pruner_extract": vla_pruner.extract,
    "vla_pruner_guide": vla_pruner.guide,
    "vla_pruner_mmdp": vla_pruner.mmdp,
    "vla_pruner_select": vla_pruner.select,
    "vla_pruner_rollout": vla_pruner.rollout,
}

PENDING = {
    "quota_*": "video method",
}
"""Kinds whose method is still to come, with the reason. Must be empty in the end."""


def kind_of(stem: str) -> str:
    """Kind of a file: its name, without a last ``_suffix`` unless the whole name is a kind."""
    return stem if stem in CHECKERS else stem.rsplit("_", 1)[0]


def pending_reason(stem: str) -> str | None:
    """Why a file is not checked yet, None when it is."""
    for name in (stem, kind_of(stem)):
        for pattern, reason in PENDING.items():
            if fnmatch(name, pattern):
                return reason
    return None
