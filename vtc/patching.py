"""``patch``, ``unpatch`` and ``patched``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec

from torch import nn

from .adapters import Adapter, AdapterChoice, choose_adapter  # type: ignore[import-not-found,unused-ignore]
from .adapters.explicit import explicit_adapter  # type: ignore[import-not-found,unused-ignore]
from .compat import check_transformers, parse
from .config import Config
from .core.budget import Keep
from .core.columns import Columns
from .core.stage import ModelFacts
from .core.words import deprecated
from .engine.handle import Handle
from .engine.installed import ATTRIBUTE
from .methods import Method, make_method
from .proof.ensuring import ensure

log = logging.getLogger("vtc")
P = ParamSpec("P")
Choice = str | Method | Config | Sequence[Method | str]


def patch(
    model: nn.Module,
    method: Choice = "auto",
    keep: Keep | None = None,
    *,
    processor: Any = None,
    adapter: AdapterChoice = None,
    images: Columns | None = None,
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
    adapter : str, Adapter or class of one, optional
        What vtc must know of the family: the name of one in :func:`vtc.list_families`, or an adapter of your own
        (``docs/write-a-family.md``). Default: by ``config.model_type``.
    images : Columns, optional
        For a language model that is handed embeddings with images in them, such as the one inside an OpenVLA-style
        policy: where they stand in the prompt (:class:`vtc.Columns`). Any method that acts after the projector or
        inside the language model will do.
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
    family = _family(model, adapter, images, options)
    if family.since and parse(found) < parse(family.since):
        raise ImportError(f"Family {family.family!r} needs transformers >= {family.since}, found {found}.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"{type(model).__name__} has an encoder-decoder language model, which vtc does not support.")
    ensure(family.family, model)
    methods, reason = _resolve(method, keep, options, family.facts(model))
    handle = Handle(model, methods, family, reason, processor, ask)  # raises before the old patch is touched
    before = model.__dict__.get(ATTRIBUTE)
    if before is not None:
        before.remove()
    handle.install()
    names = " + ".join(f"{m.name}(keep={m.keep})" for m in methods)
    log.info("patched %s (%s) with %s%s", type(model).__name__, family.family, names, f": {reason}" if reason else "")
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


def _patched_by(patch: Callable[P, Handle]) -> Callable[P, AbstractContextManager[Handle]]:
    """Derive ``patched``, which takes what ``patch`` takes."""

    @contextmanager
    def patched(*args: P.args, **kwargs: P.kwargs) -> Iterator[Handle]:
        """Patch inside a ``with`` block; same arguments and errors as :func:`patch`.

        At its end calls of other threads, such as the last moments of one that streams, get ten seconds to finish.
        """
        handle = patch(*args, **kwargs)
        try:
            yield handle
        finally:
            handle.remove(wait=10.0)

    patched.__qualname__ = patched.__name__
    shown = inspect.signature(patch).replace(return_annotation="AbstractContextManager[Handle]")
    patched.__signature__ = shown  # type: ignore[attr-defined]
    return patched


patched = _patched_by(patch)


def _family(model: nn.Module, adapter: AdapterChoice, images: Columns | None, options: dict[str, Any]) -> Adapter:
    """Adapter of a model; old names of ``images`` are taken out of the options."""
    images = _old_columns(options, images)
    if images is None:
        return choose_adapter(model, adapter)
    if adapter is not None:
        raise TypeError(
            "adapter= and images= say two things of one model: images= is for a language model alone, whose prompts "
            "hold images; pass one of them."
        )
    return explicit_adapter(model, images)


OLD_COLUMNS = {"image_start": "start", "image_length": "length", "action_length": "actions"}


def _old_columns(options: dict[str, Any], images: Columns | None) -> Columns | None:
    """``images`` from the parameters it had before it was one; they go in the next release."""
    given = {new: options.pop(old) for old, new in OLD_COLUMNS.items() if old in options}
    told = {new: value for new, value in given.items() if value is not None and (new, value) != ("actions", 0)}
    if not told:
        return images
    if images is not None:
        raise TypeError(f"images= says it all: leave out {', '.join(o for o, n in OLD_COLUMNS.items() if n in told)}.")
    if not {"start", "length"} <= told.keys():
        raise ValueError(
            "image_start and image_length belong together: the first column of the image tokens and how many there "
            "are. Pass images=vtc.Columns(start, length) instead."
        )
    found = Columns(**told)
    deprecated(
        f"{', '.join(OLD_COLUMNS)} of vtc.patch are one parameter now and go in the next release: pass "
        f"images=vtc.{found!r}."
    )
    return found


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
