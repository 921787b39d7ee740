"""The quality benchmark: exact answers on generated scenes, per method, strength and family of questions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import vtc
from vtc.chat import build_inputs, decode, new_tokens
from vtc.core.budget import Keep

from .scenes import FAMILIES, Question, Scene, question_set

NO_METHOD = "none"
"""Name of the unpatched model among the methods."""


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
    accuracy : float
        Share of exact answers.
    retained : float
        Share of the visual tokens that survived every cut, over these questions.
    options : dict
        Hyperparameters that were set.
    """

    model: str
    method: str
    keep: Keep | None
    family: str
    n: int
    accuracy: float
    retained: float
    options: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def normalise(text: str) -> str:
    """Bring an answer into the compared form: lower case, no final stop, digits joined (``"4 2"`` is 42)."""
    text = " ".join(text.lower().split()).rstrip(".! ")
    return re.sub(r"(?<=\d) (?=\d)", "", text)


def is_exact(answer: str, question: Question) -> bool:
    """Whether an answer equals the known one after :func:`normalise`."""
    return normalise(answer) == normalise(question.answer)


@dataclass(frozen=True)
class _Outcome:
    family: str
    exact: bool
    before: int
    after: int


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
    """Answer ``limit`` generated questions greedily and count the exact answers.

    Parameters
    ----------
    model, processor
        An unpatched vision-language model and its processor. The model is left as it was.
    method : str
        Name of a method, or ``"none"`` for the model as it is.
    keep : float, int or None
        Strength; None takes the method's default. Ignored for ``"none"``.
    limit, seed : int
        Number of questions, and which set of them; see :func:`vtc.eval.scenes.question_set`.
    batch : int
        Questions per call of ``generate``.
    model_name : str
        Name for the rows; by default what the model was loaded from.
    options : dict, optional
        Further hyperparameters of the method.

    Returns
    -------
    list of Row
        One per family that was asked, and one for all together.

    Raises
    ------
    ValueError, TypeError
        Bad method, keep or option, or a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit} is not allowed; ask at least 1 question.")
    options = dict(options or {})
    asked = question_set(limit, seed)
    outcomes: list[_Outcome] = []
    with contextlib.ExitStack() as stack:
        handle = None
        if method != NO_METHOD:
            handle = stack.enter_context(vtc.patched(model, method, keep=keep, processor=processor, **options))
        for start in range(0, limit, batch):
            outcomes += _answer(model, processor, handle, asked[start : start + batch])
    name = model_name or str(getattr(model.config, "name_or_path", "")) or type(model).__name__
    used = None if handle is None else handle.keep
    return _table(name, method, used, options, outcomes)


def _answer(model: Any, processor: Any, handle: Any, asked: Sequence[tuple[Scene, Question]]) -> list[_Outcome]:
    inputs = build_inputs(processor, [([scene.image], q.text) for scene, q in asked], model.device)
    answers = decode(processor, new_tokens(model, inputs, 8))
    counts = [(1, 1)] * len(asked)
    if handle is not None:
        counts = [(record.before, record.after) for record in sorted(handle.last.images, key=lambda r: r.row)]
    triples = zip(asked, answers, counts, strict=True)
    return [_Outcome(q.family, is_exact(a, q), before, after) for (_, q), a, (before, after) in triples]


def _table(model: str, method: str, keep: Keep | None, options: dict[str, Any], outcomes: list[_Outcome]) -> list[Row]:
    rows = []
    for family in [*FAMILIES, "all"]:
        mine = [o for o in outcomes if family in (o.family, "all")]
        if mine:
            accuracy = sum(o.exact for o in mine) / len(mine)
            retained = sum(o.after for o in mine) / sum(o.before for o in mine)
            rows.append(Row(model, method, keep, family, len(mine), accuracy, retained, options))
    return rows
