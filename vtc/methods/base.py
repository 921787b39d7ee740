"""What a method is: a dataclass of hyperparameters whose ``stages`` say where it acts and what it needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from ..core.budget import Keep, check_keep, keep_count
from ..core.stage import Feedback, ModelFacts, Stage


@dataclass(kw_only=True)
class Method(ABC):
    """Base of all methods.

    Subclass it as a keyword-only dataclass, set the class attributes, implement :meth:`stages`, and put the file into
    ``vtc/methods`` (or announce it by the entry point group ``vtc.methods``).

    Parameters
    ----------
    keep : float or int
        Share of each image's tokens in (0, 1], or tokens per image (>= 1).
    """

    name: ClassVar[str]
    """Name users type, in lower case with hyphens."""
    summary: ClassVar[str]
    """One line for ``vtc methods``."""
    paper: ClassVar[str] = ""
    """arXiv id."""

    keep: Keep = 0.25

    def __post_init__(self) -> None:
        """Validate; subclasses extend and call ``super().__post_init__()``."""
        self.processor: Any = None  # set by vtc.patch for methods that read the question
        check_keep(self.keep)

    @abstractmethod
    def stages(self, facts: ModelFacts) -> list[Stage]:
        """Stages for a model; raise ValueError with the reason when the model lacks something the method needs."""

    def feedback(self, facts: ModelFacts) -> Feedback | None:
        """What to measure for the next call of an episode; None for methods without a memory."""
        return None

    def keep_count(self, n: int) -> int:
        """Tokens kept of an image with ``n`` tokens, known before the encoder runs."""
        return keep_count(self.keep, n)

    def to_dict(self) -> dict[str, Any]:
        """Flat, JSON-ready configuration with the name under ``"method"``."""
        return {"method": self.name, **asdict(self)}

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the hyperparameters."""
        return tuple(f.name for f in fields(cls))


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise a ValueError that lists what is allowed when ``value`` is not."""
    if value not in allowed:
        listed = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name}={value!r} is not allowed; choose one of {listed}.")
