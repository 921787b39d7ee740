"""Float32 master weights behind a model that computes in bfloat16."""

from __future__ import annotations

from typing import Any

import torch

from .recipe import Recipe

READ_ROW_BY_ROW = ("embed", "lm_head", "dense.", "present.", "places.")
"""Parts of the names of matrices whose rows are looked up or are classes: Muon is not for them."""


def is_hidden(name: str, parameter: torch.Tensor) -> bool:
    """Whether a weight is a matrix between hidden states, which Muon moves; AdamW moves the others."""
    return parameter.ndim == 2 and not any(part in name for part in READ_ROW_BY_ROW)


class Masters:
    """Float32 copies of bfloat16 weights, which two optimisers move.

    Parameters
    ----------
    module : torch.nn.Module
    recipe : Recipe
    """

    def __init__(self, module: torch.nn.Module, recipe: Recipe) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.live = [p for _, p in named]
        self.masters = [p.detach().float().clone() for p in self.live]
        hidden = [m for m, (name, p) in zip(self.masters, named, strict=True) if is_hidden(name, p)]
        others = [m for m, (name, p) in zip(self.masters, named, strict=True) if not is_hidden(name, p)]
        flat = [p for p in others if p.ndim < 2]
        wide = [p for p in others if p.ndim >= 2]
        groups = [{"params": wide, "weight_decay": recipe.decay}, {"params": flat, "weight_decay": 0.0}]
        self.optimizers: dict[str, tuple[torch.optim.Optimizer, float]] = {
            "adamw": (torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True), 1.0),
            "muon": (
                torch.optim.Muon(hidden, weight_decay=recipe.decay, adjust_lr_fn="match_rms_adamw"),
                recipe.hidden_rate,
            ),
        }

    def step(self, rate: float, clip: float) -> None:
        """Clip, move the masters, copy them to the live weights, and forget the gradients."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, clip)
        for optimizer, share in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters to the live weights."""
        for master, live in zip(self.masters, self.live, strict=True):
            live.copy_(master)

    def state(self) -> dict[str, Any]:
        """Masters and optimiser states, for a checkpoint."""
        return {"masters": self.masters, **{name: o.state_dict() for name, (o, _) in self.optimizers.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state`."""
        with torch.no_grad():
            for mine, saved in zip(self.masters, state["masters"], strict=True):
                mine.copy_(saved)
        for name, (optimizer, _) in self.optimizers.items():
            optimizer.load_state_dict(state[name])
        self.publish()
