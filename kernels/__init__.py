"""Kernels of the selection methods: Triton on GPUs, plain torch elsewhere. Importing this never imports Triton."""

from .attention_stats import AttentionStats, attention_stats
from .greedy import Picks, greedy_diverse
from .merge import Merged, group_means, merge_tokens, recycle_cells
from .pack import pack_mask, pack_rows
from .topk import TopK, topk_select
from .transition import token_transition

__all__ = [
    "AttentionStats",
    "Merged",
    "Picks",
    "TopK",
    "attention_stats",
    "greedy_diverse",
    "group_means",
    "merge_tokens",
    "pack_mask",
    "pack_rows",
    "recycle_cells",
    "token_transition",
    "topk_select",
]
