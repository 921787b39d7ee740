"""A tiny model, its prompts, and the answers they have when nothing else runs."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import vtc
from vtc.engine.installed import ATTRIBUTE
from vtc.engine.seams import NAMES
from vtc.proof.models import all_cases
from vtc.proof.models.parts import SPECIAL, Inputs

from .scorer import even

STEPS, WORD = 5, 40
OPTIONS: dict[str, dict[str, Any]] = {
    "vflowopt": {"exact_budget": True},
    "quota": {"scorer": even},
    "vla-pruner": {"temporal": False},
}
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
}


@dataclass(frozen=True)
class Answer:
    """Ids [B, L + new], and logits [B, new, V] where rows of beams do not hide them."""

    ids: Tensor
    logits: Tensor | None

    def equals(self, other: Answer) -> bool:
        """True for the same ids and, up to the order of float32 sums, the same logits."""
        if not torch.equal(self.ids, other.ids):
            return False
        if self.logits is None or other.logits is None:
            return self.logits is other.logits
        return bool(torch.allclose(self.logits, other.logits, atol=3e-5, rtol=0))


@dataclass(frozen=True)
class Refused:
    """One of vtc's own refusals, where it is an answer: it was said and nothing was changed."""

    error: Exception


class World:
    """One tiny model.

    Parameters
    ----------
    name : str
        Of a set-up of :mod:`vtc.proof.models`.
    threads : int
        How many threads call at once where several do.

    Attributes
    ----------
    model : nn.Module
        The one that everything happens to.
    quiet : nn.Module
        A copy on which only expected answers are computed.
    unused : nn.Module
        A copy that has never run.
    methods : list of str
        Those that are drawn from.
    other : World
        The one whose model runs beside this one's; itself where there is one alone.
    """

    def __init__(self, name: str, threads: int = 3) -> None:
        self.name, self.threads, self.case = name, threads, all_cases()[name]
        self.other, self.methods = self, vtc.list_methods()
        # never run: transformers hooks what has run once for its hidden states, by functions that cannot be pickled
        self.unused = self.case.build().eval()
        self.model, self.quiet = copy.deepcopy(self.unused), copy.deepcopy(self.unused)
        self.prompts = self._prompts()
        self.expected = functools.cache(self._expected)
        self.second = functools.cache(self._second)

    def _prompts(self) -> dict[str, Inputs]:
        first = self.case.alone(0)
        other = {**first, "pixel_values": first["pixel_values"].flip(0) * 0.5 + 0.3}
        batch = self.case.batch()
        found = {"one image": first, "another image": other, "a batch with a text row": batch}
        if "image_grid_thw" not in first:  # M-RoPE ids of a row are made from its real tokens, so it needs some
            found["a masked row"] = {**batch, "attention_mask": batch["attention_mask"].clone()}
            found["a masked row"]["attention_mask"][self._text_row()] = 0
        return found

    def _text_row(self) -> int:
        ids, token = self.case.batch()["input_ids"], self.model.config.image_token_id
        return int((ids == token).sum(1).argmin())

    def patch(self, method: str | None, keep: float = 0.5, model: Any = None) -> Any:
        """Patch the model with a method; None leaves it plain."""
        model = self.model if model is None else model
        return None if method is None else vtc.patch(model, method, keep=keep, **OPTIONS.get(method, {}))

    def run(self, prompt: str, mode: str = "greedy", model: Any = None, **extra: Any) -> Answer:
        """Generate, on this thread, with whatever is patched now."""
        model = self.model if model is None else model
        options: dict[str, Any] = dict(max_new_tokens=STEPS, do_sample=False, suppress_tokens=list(SPECIAL))
        with torch.no_grad():
            out = model.generate(
                **self.prompts[prompt],
                **{**options, **MODES[mode], **extra},
                return_dict_in_generate=True,
                output_logits=True,
            )
        return Answer(out.sequences, None if mode == "beams" else torch.stack(out.logits, 1))

    def turns(self, model: Any = None) -> Answer:
        """Two turns on one cache: the second feeds text alone."""
        model, first = self.model if model is None else model, self.prompts["one image"]
        options: dict[str, Any] = dict(max_new_tokens=3, min_new_tokens=3, do_sample=False)
        with torch.no_grad():
            out = model.generate(**first, **options, return_dict_in_generate=True)
            more = torch.cat([out.sequences, torch.full((1, 4), WORD)], 1)
            name = next(n for n in NAMES["cache"] if n in out.keys())  # older names answer, too, with a warning
            cache = {name: out[name]}
            again = model.generate(input_ids=more, attention_mask=torch.ones_like(more), **cache, **options)
        return Answer(again, None)

    def _expected(self, method: str | None, prompt: str, mode: str, keep: float) -> Answer:
        self.patch(method, keep, self.quiet)
        try:
            return self.run(prompt, mode, self.quiet)
        finally:
            plain(self.quiet)

    def _second(self, method: str) -> Answer:
        self.patch(method, model=self.quiet)
        try:
            return self.turns(self.quiet)
        finally:
            plain(self.quiet)


def plain(model: Any) -> None:
    """Take a patch off, if there is one."""
    if ATTRIBUTE in model.__dict__:
        vtc.unpatch(model)
