"""Token transition: how much a module changes the length and the direction of every token (TransPrune)."""

from __future__ import annotations

from torch import Tensor

from vtc.kernels import token_transition

from .context import Context, Option


def token_change(given: Tensor, made: Tensor, option: Option, context: Context) -> Tensor:
    """Transition of every token through one module.

    Parameters
    ----------
    given, made : Tensor [B, K, D]
        Input and output of the module.
    option : tuple of str or None
        Direction ("signed" or "abs") and domain: "image" compares the visual tokens with each other alone, "sequence"
        all of them. None: ("signed", "sequence").

    Returns
    -------
    Tensor [B, K], fp32 (fp64 stays)
        See :func:`vtc.kernels.token_transition`; 0 for tokens that are not compared.
    """
    direction, domain = option if isinstance(option, tuple) else ("signed", "sequence")
    counted = context.counted(domain == "image")
    return token_transition(given, made, None if counted is None else counted.to(given.device), direction)
