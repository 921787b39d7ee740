"""``patch``, ``unpatch`` and ``patched``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from .adapters import Adapter, find_adapter  # type: ignore[import-not-found,unused-ignore]
from .adapters.explicit import explicit_adapter  # type: ignore[import-not-found,unused-ignore]
from .compat import check_transformers, parse
from .config import Config
from .core.budget import Keep
from .core.stage import ModelFacts
from .engine.handle import Handle
from .engine.installed import ATTRIBUTE
from .methods import Method, make_method
from .proof.ensuring import ensure

log = logging.getLogger("vtc")
Choice = str | Method | Config | Sequence[Method | str]


def patch(
    model: nn.Module,
    method: Choice = "auto",
    keep: Keep | None = None,
    *,
    processor: Any = None,
    image_start: int | None = None,
    image_length: int | Sequence[int] | None = None,
    action_length: int = 0,
    **options: Any,
) -> Handle:
    """Make a vision-language model run on fewer visual tokens, in place.

    Parameters
    ----------
    model : nn.Module
        A transformers model such as ``AutoModelForImageTextToText`` returns, or peft's wrapper around one, whose inner
        model is patched.
    method : str, Method, Config or sequence of them
        Name (see :func:`vtc.list_methods`), a method object, a loaded configuration, or several to run in order.
        ``"auto"`` chooses by family and says why in one log line.
    keep : float or int, optional
        Share of each image's tokens in (0, 1], or tokens per image; default: the method's own.
    processor : optional
        The model's processor; only methods that read the question need it.
    image_start, image_length : int (or a sequence of lengths, one per camera), optional
        For a language model that is handed embeddings with images in them, such as the one inside an OpenVLA-style
        policy: column of the first image token, counted from the first real token of a row, and tokens per image.
        ``vtc.patch(policy.language_model, "vla-pruner", keep=0.5, image_start=1, image_length=256)``. Any method
        that acts after the projector or inside the language model will do.
    action_length : int
        With them: placeholders at the end of the prompt that become a chunk of actions in one pass (OpenVLA-OFT).
    **options
        Hyperparameters of the method.

    Returns
    -------
    Handle
        Patching a patched model replaces the earlier patch.

    Raises
    ------
    ImportError
        The installed transformers is too old for vtc or for this family, of an untested major version, or newer than
        the tested ones and :func:`vtc.proof.ensure` finds that vtc is not right on it.
    TypeError
        Not a vision-language model, or an unknown hyperparameter.
    ValueError
        Unknown method, value out of range, or a method that cannot run on this model (with the reason).

    Notes
    -----
    Hooks only: weights, ``state_dict`` and checkpoints are those of the plain model. Quantized weights (bitsandbytes in
    4 or 8 bits, which itself runs on GPUs only) and models spread over devices by accelerate work as they are.
    """
    found = check_transformers()
    model = unwrapped(model)
    explicit = image_start is not None or image_length is not None or action_length
    adapter = explicit_adapter(model, image_start, image_length, action_length) if explicit else find_adapter(model)
    if adapter.since and parse(found) < parse(adapter.since):
        raise ImportError(f"Family {adapter.family!r} needs transformers >= {adapter.since}, found {found}.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"{type(model).__name__} has an encoder-decoder language model, which vtc does not support.")
    ensure(adapter.family, model)
    methods, reason = _resolve(method, keep, options, adapter.facts(model))
    handle = Handle(model, methods, adapter, reason, processor, ask)  # raises before the old patch is touched
    before = model.__dict__.get(ATTRIBUTE)
    if before is not None:
        before.remove()
    handle.install()
    names = " + ".join(f"{m.name}(keep={m.keep})" for m in methods)
    log.info("patched %s (%s) with %s%s", type(model).__name__, adapter.family, names, f": {reason}" if reason else "")
    return handle


def ask(scorer: Any, handle: Handle, inputs: dict[str, Any]) -> Any:
    """Scores of the frames of a call by whatever was passed as ``scorer=``."""
    from .video import scorers

    return scorers.as_scorer(scorer)(handle, inputs)


def unwrapped(model: Any) -> Any:
    """Model inside a peft wrapper, else the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") and hasattr(model, "peft_config") else model


def unpatch(model: nn.Module) -> None:
    """Give a patched model back as it was, bit for bit.

    Raises
    ------
    ValueError
        The model is not patched.
    """
    handle = getattr(unwrapped(model), "__dict__", {}).get(ATTRIBUTE)
    if handle is None:
        raise ValueError(f"This {type(model).__name__} is not patched, so there is nothing to take off.")
    handle.remove()


@contextmanager
def patched(model: nn.Module, method: Choice = "auto", keep: Keep | None = None, **options: Any) -> Iterator[Handle]:
    """Patch inside a ``with`` block; same arguments and errors as :func:`patch`.

    At its end calls of other threads, such as the last moments of one that streams, get ten seconds to finish.
    """
    handle = patch(model, method, keep, **options)
    try:
        yield handle
    finally:
        handle.remove(wait=10.0)


AUTO_CHOICES = ("vtc-cls", "pool")
"""What :func:`auto` chooses from."""


def auto(facts: ModelFacts) -> tuple[str, str]:
    """Choose a method for a model: its name and a one-line reason."""
    if facts.vision_layers and facts.has_class_token:
        return "vtc-cls", "the encoder has a [CLS] token whose attention ranks patches at next to no cost"
    if facts.vision_layers:
        return "vtc-cls", "no [CLS] token: patches are ranked by the attention they receive in the encoder"
    return "pool", "no vision tower with readable attention was found: pooling needs features only"


def _resolve(method: Any, keep: Keep | None, options: dict[str, Any], facts: ModelFacts) -> tuple[list[Method], str]:
    reason = ""
    if isinstance(method, str):
        if method == "auto":
            method, reason = auto(facts)
        return [make_method(method, **({} if keep is None else {"keep": keep}), **options)], reason
    if keep is not None or options:
        given = ["keep"] * (keep is not None) + sorted(options)
        raise TypeError(f"{given} belong into the method objects or the configuration you passed.")
    if isinstance(method, Config):
        return method.build(), reason
    if isinstance(method, Method):
        return [method], reason
    if isinstance(method, Sequence) and method:
        return [make_method(m) if isinstance(m, str) else m for m in method], reason
    raise TypeError(
        f"method={method!r} is a {type(method).__name__}; "
        "pass a name, a Method, a Config from vtc.load, or a list of them."
    )


__all__ = ["Adapter", "auto", "patch", "patched", "unpatch"]
