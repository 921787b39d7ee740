"""What a method is: a dataclass of hyperparameters whose ``stages`` say where it acts and what it needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from ..core.budget import Keep, check_keep, keep_count
from ..core.fields import field_types, fit
from ..core.stage import Feedback, ModelFacts, Stage
from ..core.texts import literal, reread
from ..core.words import shown
from .docs import complete


@dataclass(kw_only=True)
class Method(ABC):
    """Base of all methods.

    Subclass it as a keyword-only dataclass, set the class attributes, implement :meth:`stages`, and put the file into
    ``vtc/methods`` (or announce it by the entry point group ``vtc.methods``). Hyperparameters are checked by their
    declared types here; ``__post_init__`` is for what types do not say.

    :mod:`vtc.methods.scorer` has the two usual kinds, which leave only needs and scores to be said. Fields that are
    described in :data:`vtc.methods.docs.SHARED` need no words of their own.

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

    def __init_subclass__(cls, **options: Any) -> None:
        """Complete the docstring by the fields that many methods share."""
        super().__init_subclass__(**options)
        cls.__doc__ = complete(cls)

    def __post_init__(self) -> None:
        """Check what the types do not say, such as ranges; subclasses extend and call ``super().__post_init__()``."""
        self.processor: Any = None  # set by vtc.patch for methods that read the question

    def __setattr__(self, name: str, value: Any) -> None:
        """Check hyperparameters by their declared types, when a method is made and whenever one is set later.

        Raises
        ------
        TypeError, ValueError
            See :func:`vtc.core.fields.fit` and :func:`vtc.core.budget.check_keep`.
        """
        super().__setattr__(name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> Any:
        declared = type(self).__dataclass_fields__.get(name)
        if declared is None:
            return value
        if "check" in declared.metadata:
            return declared.metadata["check"](value)
        if name == "keep":
            # None stands for a default that the method works out while it is made
            unset = value is None and declared.default is None and "keep" not in vars(self)
            return value if unset else check_keep(value)
        types = field_types(type(self))
        return fit(name, value, types[name]) if name in types else value

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
        return tuple(f.name for f in fields(cls) if f.init)

    @classmethod
    def read_option(cls, name: str, value: Any) -> Any:
        """Value of the hyperparameter ``name`` from text, or from what a reader that knew no types made of a text.

        Raises
        ------
        TypeError, ValueError
            See :func:`vtc.core.texts.read`; the message begins with the name.
        """
        own, types = cls.__dataclass_fields__[name].metadata.get("check"), field_types(cls)
        if own is not None or name not in types:
            value = literal(value) if isinstance(value, str) else value
            return own(value) if own else value
        return reread(name, value, types[name])


def checked_by(check: Callable[[Any], Any], default: Any = None) -> Any:
    """Field whose values go through a function of its own (value in, checked value out) instead of the declared type.

    For what an annotation cannot say: ``frame_scores: FrameScores | None = checked_by(plain_scores)``.
    """
    return field(default=default, metadata={"check": check})


def check_range(method: Method, allowed: str, within: Callable[[Any], bool], *names: str) -> None:
    """Raise a ValueError that says what is allowed for the first of these hyperparameters that is not ``within``.

    None, where a hyperparameter may be None, is no number and always allowed.
    """
    for name in names:
        value = getattr(method, name)
        if value is not None and not within(value):
            raise ValueError(f"{name}={shown(value)} is not allowed: pass {allowed}.")
