"""Random calls of a vision-language model: prompts, masks, positions, caches, requests, and what follows the prompt."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from support import oracle, tiny, tiny_families

MASKS = ("none", "left", "right", "holes", "row", "4-D bool", "4-D additive", "blocks bool", "blocks additive")
POSITIONS = ("none", "none", "given", "offset", "restarting")
CACHES = ("default", "dynamic", "static", "off")
METHODS: dict[str, Callable[[], Any]] = {
    "before": lambda: oracle.Norms(keep=0.4),
    "before, few": lambda: oracle.Norms(keep=2),
    "renumbered": lambda: oracle.Norms(keep=0.5, positions="renumber"),
    "inside": lambda: oracle.Norms(before=False, cuts=((1, 0.6), (3, 0.4))),
    "inside, per row": lambda: oracle.Norms(before=False, cuts=((2, 0.3),), scope="row"),
    "both": lambda: oracle.Norms(keep=0.6, cuts=((1, 0.5), (3, 0.5))),
    "both, renumbered": lambda: oracle.Norms(keep=0.6, cuts=((1, 0.5), (3, 0.5)), positions="renumber"),
    "last query": lambda: oracle.LastQuery(keep=0.4),
    "last query, renumbered": lambda: oracle.LastQuery(keep=0.4, layers=(1, 3), positions="renumber"),
    **{name: lambda name=name: name for name in ("fastv", "divprune", "todre", "pyramiddrop", "transprune", "random")},
}
PARTS = {
    "llava-clip": ["image"],
    "llava-qwen3": ["image"],
    "gemma3": ["image"],
    "qwen2_vl": [("image", (1, 4, 8)), ("video", (2, 4, 4))],
    "qwen2_5_vl-video": [("image", (1, 4, 8)), ("video", (2, 4, 4)), ("image", (1, 8, 8))],
    "qwen3_vl": [("image", (1, 4, 8)), ("video", (2, 4, 4))],
}


@dataclass
class Turn:
    """What follows the prompt on its cache: ids [B, n], and which earlier columns are hidden from now on."""

    ids: Tensor
    hidden: Tensor | None = None


@dataclass
class Layout:
    """One call. ``seen`` [B, N, N] are the pairs that mask code of ours opens, None where transformers makes them."""

    case: str
    attention: str
    method: str
    keep: float | int
    mask: str
    positions: str
    cache: str
    inputs: dict[str, Tensor]
    rows: list[list[int]]
    request: Any = 0
    turns: list[Turn] = field(default_factory=list)
    outputs: bool = False
    real: Tensor | None = None
    seen: Tensor | None = None
    places: Tensor | None = None

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def total(self) -> int:
        return self.length + sum(turn.ids.shape[1] for turn in self.turns)

    def __str__(self) -> str:
        shape, turns = tuple(self.inputs["input_ids"].shape), [t.ids.shape[1] for t in self.turns]
        return (
            f"{self.case}, {self.attention}, {self.method}, mask {self.mask}, positions {self.positions}, cache "
            f"{self.cache}, ids {shape}, samples {self.rows}, logits {self.request}, turns {turns} "
            f"(hiding {[t.hidden is not None for t in self.turns]}), outputs {self.outputs}"
        )


def sample(rng: random.Random, case: str) -> list[Any]:
    """Text, and now and then an image or two."""
    parts: list[Any] = [rng.randrange(1, 6)]
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        parts += [rng.choice(PARTS[case])] + ([rng.randrange(1, 5)] if rng.random() < 0.8 else [])
    return parts + ([rng.randrange(1, 5)] if isinstance(parts[-1], int) is False or rng.random() < 0.3 else [])


def draw(seed: int, attention: str | None = None) -> Layout:
    """The call of one seed."""
    rng = random.Random(seed)
    name = rng.choice(list(PARTS))
    case = tiny_families.ALL[name]
    rows = [[sample(rng, name) for _ in range(rng.choice([1, 1, 2, 3]))] for _ in range(rng.choice([1, 1, 2, 3]))]
    if all(isinstance(p, int) for row in rows for one in row for p in one):
        rows[0][0] = [2, PARTS[name][0], 3]
    kernel, mask = attention or rng.choice(["sdpa", "eager"]), rng.choice(MASKS)
    if kernel == "eager":
        mask = mask.replace("bool", "additive")  # its kernel adds whatever it gets, patched or not
    flat = [sum(row, []) for row in rows]
    inputs = case.inputs(flat, list(range(len(flat))), "right" if mask == "right" else "left")
    out = Layout(
        case=name,
        attention=kernel,
        method=rng.choice(list(METHODS)),
        keep=rng.choice([0.2, 0.5, 3]),
        mask=mask,
        positions=rng.choice(POSITIONS),
        cache=rng.choice(CACHES),
        inputs=inputs,
        rows=[starts(case, row, inputs["input_ids"].shape[1], mask) for row in rows],
    )
    if out.cache != "off":
        for _ in range(rng.choice([0, 1, 2, 3])):
            n = rng.choice([1, 1, 1, 3])
            out.turns.append(Turn(torch.tensor([[rng.randrange(20, tiny.VOCAB) for _ in range(n)] for _ in rows])))
    out.outputs = rng.random() < 0.2
    request(rng, out)
    put_masks(rng, out)
    put_positions(rng, out)
    return out


def starts(case: Any, row: list[list[Any]], width: int, mask: str) -> list[int]:
    """First column of every sample of a packed row."""
    ends = [case.inputs([sum(row[: k + 1], [])], [0])["input_ids"].shape[1] for k in range(len(row))]
    gap = 0 if mask == "right" else width - ends[-1]
    return [gap, *(gap + e for e in ends[:-1])]


def request(rng: random.Random, out: Layout) -> None:
    """Columns whose logits are asked for."""
    kind = rng.randrange(4)
    if kind == 1:
        out.request = rng.randrange(1, out.length + 1)
    elif kind == 2:
        out.request = torch.tensor(sorted(rng.sample(range(out.length), rng.randrange(1, out.length))))
    elif kind == 3:
        out.request = 1


def sample_of(out: Layout) -> Tensor:
    """Ordinal of the sample of every column, [B, N]; what follows belongs to the last one."""
    place = torch.arange(out.total)
    return torch.stack([sum((place >= s).long() for s in row[1:]) + torch.zeros_like(place) for row in out.rows])


def put_masks(rng: random.Random, out: Layout) -> None:
    """The mask of the prompt, and what later turns hide."""
    ids = out.inputs["input_ids"]
    real = out.inputs.pop("attention_mask").bool()
    if out.mask == "holes":
        real = real & (torch.tensor([[rng.random() > 0.15 for _ in r] for r in ids.tolist()]))
    elif out.mask == "row":
        real = real.clone()
        real[rng.randrange(len(real))] = False
    out.real = torch.cat([real, torch.ones(len(real), out.total - out.length, dtype=torch.bool)], 1)
    if out.mask in ("left", "right", "holes", "row"):
        out.inputs["attention_mask"] = real.long()
        for turn in out.turns:
            if rng.random() < 0.3:
                turn.hidden = real & torch.tensor([[rng.random() < 0.2 for _ in r] for r in ids.tolist()])
    elif out.mask == "none":
        out.real = torch.ones_like(out.real)
    else:
        causal = torch.ones(out.total, out.total, dtype=torch.bool).tril()
        seen = causal & out.real[:, None, :]
        if out.mask.startswith("blocks"):
            sample = sample_of(out)
            seen = seen & (sample[:, :, None] == sample[:, None, :])
        elif rng.random() < 0.5:  # pairs of the user's own: some keys are closed to some queries
            closed = torch.tensor([[[rng.random() < 0.1 for _ in range(out.total)] for _ in range(out.total)]])
            seen = seen & ~(closed & ~torch.eye(out.total, dtype=torch.bool))
        out.seen = seen
        out.inputs["attention_mask"] = finished(out, 0, out.length)


def finished(out: Layout, start: int, end: int) -> Tensor:
    """Rows of the 4-D mask in the format of the layout."""
    part = out.seen[:, None, start:end, :end]
    if out.mask.endswith("bool"):
        return part
    return torch.zeros(part.shape).masked_fill(~part, torch.finfo(torch.float32).min)


def put_positions(rng: random.Random, out: Layout) -> None:
    """Position ids of all columns: [B, N], or [3 or 4, B, N] for M-RoPE."""
    multimodal = out.case.startswith("qwen")
    masked = out.seen is not None or bool(out.turns) and "attention_mask" in out.inputs
    if out.positions == "none" and not (multimodal and masked):  # which M-RoPE models cannot make ids from
        return
    sample, count = sample_of(out), torch.arange(out.total).expand(len(out.rows), -1)
    flat = count + (rng.randrange(1, 9) if out.positions == "offset" else 0)
    if out.positions == "restarting":
        fresh = torch.ones_like(sample, dtype=torch.bool)
        fresh[:, 1:] = sample[:, 1:] != sample[:, :-1]
        flat = count - torch.where(fresh, count, 0).cummax(1).values
    if not multimodal:
        out.places = flat
    else:
        grid = torch.stack([flat, flat + count % 3, flat + count % 5])
        out.places = torch.cat([flat[None], grid]) if rng.random() < 0.5 else grid
    out.inputs["position_ids"] = out.places[..., : out.length]
