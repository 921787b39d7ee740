"""Float32 master weights behind a model that computes in bfloat16."""

from __future__ import annotations

from typing import Any

import torch

from .recipe import Recipe


class Masters:
    """Float32 copies of bfloat16 weights, which the optimiser moves."""

    def __init__(self, module: torch.nn.Module, recipe: Recipe) -> None:
        self.live = [p for p in module.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.live]
        flat = [p for p in self.masters if p.ndim < 2]
        wide = [p for p in self.masters if p.ndim >= 2]
        groups = [{"params": wide, "weight_decay": recipe.decay}, {"params": flat, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)

    def step(self, rate: float, clip: float) -> None:
        """Clip, move the masters, copy them to the live weights, and forget the gradients."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters to the live weights."""
        for master, live in zip(self.masters, self.live, strict=True):
            live.copy_(master)

    def state(self) -> dict[str, Any]:
        """Masters and optimiser state, for a checkpoint."""
        return {"masters": self.masters, "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state`."""
        with torch.no_grad():
            for mine, saved in zip(self.masters, state["masters"], strict=True):
                mine.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.publish()
