"""Methods that cut inside the language model, as the tests run them."""

from __future__ import annotations

from vtc.methods.fastv import FastV
from vtc.methods.pyramiddrop import PyramidDrop
from vtc.methods.todre import ToDRE
from vtc.methods.transprune import TransPrune
from vtc.methods.vflowopt import VFlowOpt

METHODS = {
    "fastv": lambda: FastV(keep=0.5),
    "fastv renumbered": lambda: FastV(keep=0.3, layer=1, scope="image", positions="renumber"),
    "pyramiddrop": lambda: PyramidDrop(keep=0.2),
    "pyramiddrop kept positions": lambda: PyramidDrop(keep=9, scope="image", positions="keep"),
    "transprune": lambda: TransPrune(),
    "transprune three cuts": lambda: TransPrune(
        prune_layers=(1, 2, 3), accumulate_layers=(1, 2, 3), keep=0.2, positions="keep", domain="image"
    ),
    "transprune alone": lambda: TransPrune(preset="low", alpha=1.0, scope="image", direction="abs"),
    "todre": lambda: ToDRE(keep=0.4, tau=1.0),
    "todre by sample": lambda: ToDRE(keep=0.5, pivot="farthest", tau=0.45, positions="keep"),
    # recycled rows are no rows of the full sequence, so the oracle cannot know them
    "vflowopt": lambda: VFlowOpt(keep=0.4, recycling=False),
    "vflowopt searched": lambda: VFlowOpt(keep=0.4, t=1.0, r1=0.7, r2=0.5, r3=0.3, recycling=False, positions="keep"),
}


def renumbering(name, method):
    """How the oracle has to number positions; M-RoPE keeps them always, later cuts of some methods do."""
    if name.startswith("qwen2_5") or method.positions == "keep":
        return False
    return "first" if isinstance(method, (ToDRE, VFlowOpt)) else True
