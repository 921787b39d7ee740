"""``--model vtc``: the class lmms-eval itself would use, with its model patched."""

from __future__ import annotations

from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.utils import simple_parse_args_string

from .arguments import claim, signature, split
from .bases import base_class, base_name, fit_machine, use_prompts_of
from .failure import exit_under_cli
from .mixin import Patched


def create(args: dict[str, Any], simple: bool = False) -> Any:
    """Make the model: a subclass of the base class of lmms-eval, made on the spot.

    Parameters
    ----------
    args : dict
        Our arguments (:data:`.arguments.OURS`, hyperparameters of the method) and those of the base class.
    simple : bool
        Take the base's simple class even when it has a chat class.

    Raises
    ------
    TypeError, ValueError
        Arguments that nobody knows or that are out of range; a model that cannot be patched.
    ImportError
        The base class cannot be imported.
    """
    settings, rest = split(args)
    name = settings.base or base_name(rest)
    base = base_class(name, simple)
    settings, rest = claim(settings, rest, base)
    use_prompts_of(name)
    cls = type(
        f"VTC_{base.__name__}", (Patched, base), {"settings": settings, "base_name": name, "__module__": __name__}
    )
    return cls(**fit_machine(name, rest, signature(base)[0]))


class _Factory(lmms):
    """What lmms-eval finds under the name ``vtc``; it is never instantiated itself."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Make the model from ``--model_args``; see :func:`create`."""
        further = {k: v for k, v in (additional_config or {}).items() if v is not None and k != "max_batch_size"}
        with exit_under_cli():
            return create({**simple_parse_args_string(arg_string), **further}, cls.is_simple)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Never called."""
        raise NotImplementedError

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Never called."""
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Never called."""
        raise NotImplementedError


class VTCSimple(_Factory):
    """``--model vtc --force_simple``."""

    is_simple = True


class VTCChat(_Factory):
    """``--model vtc``."""

    is_simple = False
