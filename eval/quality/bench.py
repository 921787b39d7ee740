"""The quality benchmark: exact answers on generated scenes, per method, strength and family of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import vtc
from vtc.core.budget import Keep

from ..scenes import IMAGE_FAMILIES
from .answers import Outcome, answer_items, blanked, is_exact, normalise
from .bootstrap import interval, ratio_interval
from .questions import FAMILIES, test_set

__all__ = ["BLANK", "NO_METHOD", "Benchmark", "Row", "evaluate", "is_exact", "normalise"]

NO_METHOD = "none"
"""Name of the unpatched model among the methods."""
BLANK = "blank"
"""Name of the unpatched model that is shown plain grey: what can be guessed from the question."""
KEEPS: tuple[float, ...] = (0.5, 0.33, 0.22, 0.11, 0.055)
"""Strengths of the published tables."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    model, method : str
    keep : float, int or None
        As given; None for the unpatched model.
    family : str
        A family of questions, or ``"all"``.
    n : int
        Number of questions.
    accuracy, accuracy_low, accuracy_high : float
        Share of exact answers, and its 95 % bootstrap interval.
    retained : float
        Share of the visual tokens that survived every cut, over these questions.
    layers : float
        The same share averaged over the decoder's layers: what a method that cuts late has kept for a while counts.
    flops : float
        FLOPs of the decoder's prefill as a share of the unpatched ones, text included.
    relative, relative_low, relative_high : float or None
        Accuracy divided by that of the unpatched model on the same questions, and its 95 % bootstrap interval
        (paired: the same questions drawn for both). None where the unpatched model has no answer right.
    options : dict
        Hyperparameters that were set.
    """

    model: str
    method: str
    keep: Keep | None
    family: str
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    retained: float
    layers: float
    flops: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    options: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


class Benchmark:
    """A test set, answered once by the unpatched model, and then by it under any number of methods.

    Parameters
    ----------
    model, processor
        An unpatched vision-language model and its processor. The model is left as it was.
    limit, seed : int
        Number of questions in all, and which set of them; see :func:`vtc.eval.quality.questions.test_set`.
    families : sequence of str, optional
        By default all the model can be asked: those about videos only with a video processor.
    batch : int
        Questions per call of ``generate``.
    model_name : str
        Name for the rows; by default what the model was loaded from.

    Raises
    ------
    ValueError
        A limit below 1, or an unknown family.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        limit: int = 300,
        seed: int = 0,
        families: Sequence[str] | None = None,
        *,
        batch: int = 50,
        model_name: str = "",
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit={limit} is not allowed; ask at least 1 question.")
        self.model, self.processor, self.batch = model, processor, batch
        self.families = tuple(families or (FAMILIES if hasattr(processor, "video_processor") else IMAGE_FAMILIES))
        self.items = test_set(self.families, limit, seed)
        self.name = model_name or str(getattr(model.config, "name_or_path", "")) or type(model).__name__
        self.base = answer_items(model, processor, self.items, batch)

    def run(
        self, method: str = NO_METHOD, keep: Keep | None = None, options: dict[str, Any] | None = None
    ) -> list[Row]:
        """Answer the test set under a method.

        Parameters
        ----------
        method : str
            Name of a method, ``"none"`` for the model as it is, or ``"blank"`` for it without the pictures.
        keep : float, int or None
            Strength; None takes the method's default. Ignored for ``"none"`` and ``"blank"``.
        options : dict, optional
            Further hyperparameters of the method.

        Returns
        -------
        list of Row
            One per family that was asked, and one for all together.

        Raises
        ------
        ValueError, TypeError
            Bad method, keep or option.
        """
        options = dict(options or {})
        used: Keep | None = None
        if method == NO_METHOD:
            outcomes = self.base
        elif method == BLANK:
            outcomes = answer_items(self.model, self.processor, [blanked(i) for i in self.items], self.batch)
        else:
            with vtc.patched(self.model, method, keep=keep, processor=self.processor, **options) as handle:
                outcomes = answer_items(self.model, self.processor, self.items, self.batch, handle)
                used = handle.keep
        return self._rows(method, used, options, outcomes)

    def _rows(self, method: str, keep: Keep | None, options: dict[str, Any], outcomes: list[Outcome]) -> list[Row]:
        rows = []
        for family in [*self.families, "all"]:
            pairs = [p for p in zip(outcomes, self.base, strict=True) if family in (p[0].family, "all")]
            if not pairs:
                continue
            mine, base = [o.exact for o, _ in pairs], [b.exact for _, b in pairs]
            accuracy, reference = sum(mine) / len(mine), sum(base) / len(base)
            before = sum(o.before for o, _ in pairs)
            kept, mean = sum(o.after for o, _ in pairs) / before, sum(o.mean for o, _ in pairs) / before
            flops = sum(o.flops_after for o, _ in pairs) / sum(o.flops_before for o, _ in pairs)
            relative = accuracy / reference if reference else None
            low, high = interval(mine)
            least, most = ratio_interval(mine, base) or (None, None)
            score, cost = (accuracy, low, high), (kept, mean, flops)
            rows.append(Row(self.name, method, keep, family, len(mine), *score, *cost, relative, least, most, options))
        return rows


def evaluate(
    model: Any,
    processor: Any,
    method: str = NO_METHOD,
    keep: Keep | None = None,
    limit: int = 300,
    seed: int = 0,
    *,
    batch: int = 50,
    model_name: str = "",
    options: dict[str, Any] | None = None,
) -> list[Row]:
    """Answer ``limit`` questions under one method; see :class:`Benchmark`, which compares several at less cost."""
    bench = Benchmark(model, processor, limit, seed, batch=batch, model_name=model_name)
    return bench.run(method, keep, options)
