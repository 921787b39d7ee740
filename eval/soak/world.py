"""A tiny model, its prompts, and the answers they have when nothing else runs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
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
TURNS = "second turn"
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
    """Ids [B, L + new], and logits [B, new, V]; of beams, whose rows change places, the scores [B] of the sequences.

    A stream has ids alone.
    """

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


@dataclass(frozen=True)
class Broken:
    """A call that an interrupt or an exception ended, as was planned: it has no answer."""

    error: BaseException


Request = tuple[str | None, str, str, float]
"""Method, prompt, mode and keep."""


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
        self.other, self.methods = self, list[str]()
        # never run: transformers hooks what has run once for its hidden states, by functions that cannot be pickled
        self.unused = self.case.build().eval()
        self.model, self.quiet = copy.deepcopy(self.unused), copy.deepcopy(self.unused)
        self.prompts = self._prompts()
        self._alone: dict[Request, Answer] = {}

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
                output_scores=mode == "beams",
            )
        return Answer(out.sequences, out.sequences_scores if mode == "beams" else torch.stack(out.logits, 1))

    def turns(self, model: Any = None) -> Answer:
        """Two turns on one cache: the second feeds text alone."""
        model, first = self.model if model is None else model, self.prompts["one image"]
        options: dict[str, Any] = dict(
            max_new_tokens=3, min_new_tokens=3, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        with torch.no_grad():
            out = model.generate(**first, **options)
            more = torch.cat([out.sequences, torch.full((1, 4), WORD)], 1)
            name = next(n for n in NAMES["cache"] if n in out.keys())  # older names answer, too, with a warning
            cache = {name: out[name]}
            again = model.generate(input_ids=more, attention_mask=torch.ones_like(more), **cache, **options)
        return Answer(again.sequences, torch.stack(again.logits, 1))

    def prepare(self, methods: Sequence[str], keeps: Sequence[float]) -> None:
        """Compute all expected answers, before anything else happens.

        Parameters
        ----------
        methods : sequence of str
            That are drawn from.
        keeps : sequence of float
            The one all modes run with, and others that greedy calls run with.
        """
        self.methods = list(methods)
        for method in (None, *methods):
            for prompt in self.prompts:
                for mode in MODES:
                    for keep in keeps if mode == "greedy" else keeps[:1]:
                        ask = functools.partial(self.run, prompt, mode, self.quiet)
                        self._note((method, prompt, mode, keep), ask)
            self._note((method, "", TURNS, keeps[0]), functools.partial(self.turns, self.quiet))

    def _note(self, request: Request, ask: Callable[[], Answer]) -> None:
        self.patch(request[0], request[-1], self.quiet)
        try:
            self._alone[request] = ask()
        finally:
            plain(self.quiet)

    def expected(self, method: str | None, prompt: str, mode: str, keep: float) -> Answer:
        """What was computed beforehand."""
        return self._alone[method, prompt, mode, keep]

    def second(self, method: str, keep: float) -> Answer:
        """Answer to the second of two turns, as it was computed beforehand."""
        return self._alone[method, "", TURNS, keep]


def plain(model: Any) -> None:
    """Take a patch off, if there is one."""
    if ATTRIBUTE in model.__dict__:
        vtc.unpatch(model)
