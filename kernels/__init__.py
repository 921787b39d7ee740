"""Operators of the selection methods: Triton on GPUs, plain torch elsewhere. Importing this never imports Triton.

One package per operator. Its ``__init__`` holds the public function, which checks the arguments and decides what runs;
``triton`` the kernel and its launch; ``naive`` the operator as it is published, plain torch. Where the published form
needs too much memory or time, a third file holds the torch code that runs instead (``greedy.gram``,
``attention.blocks``).
"""

from .assign import assign_nearest
from .attention import AttentionStats, attention_stats, visible_keys
from .greedy import Objective, Picks, greedy_diverse
from .merge import Merged, group_means, group_shares, merge_tokens
from .pack import pack_mask, pack_rows
from .topk import TopK, topk_select
from .transition import Direction, token_transition

__all__ = [
    "AttentionStats",
    "Direction",
    "Merged",
    "Objective",
    "Picks",
    "TopK",
    "assign_nearest",
    "attention_stats",
    "greedy_diverse",
    "group_means",
    "group_shares",
    "merge_tokens",
    "pack_mask",
    "pack_rows",
    "token_transition",
    "topk_select",
    "visible_keys",
]
