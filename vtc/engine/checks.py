"""What the engine needs of transformers, looked for before a model is hooked and while it runs.

Every check that fails is an error that says what is missing, which versions are tested, and what to do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from ..compat import FLOOR, TESTED
from .forward import Forward
from .plan import Plan
from .seams import FEATURES, MAKERS, NAMES, kernels, name_of, parameters
from .site import Site
from .types import Cache

LAYER_CONTRACT = {
    "update": ("key_states", "value_states"),
    "get_mask_sizes": ("query_length",),
    "get_seq_length": (),
    "reorder_cache": ("beam_idx",),
    "crop": (),
}
"""Methods of a cache layer, and the arguments the engine's own layers take."""

WRAPPED = ("_orig_mod", "module", "_fsdp_wrapped_module")
"""Where wrappers of torch keep the module they run."""

REMEDY = (
    f"vtc is tested on transformers {FLOOR} to {TESTED}: install one of these (pip install 'transformers>={FLOOR},"
    f"<={TESTED}.99'), or look for a newer vtc."
)


class SeamError(ImportError):
    """A place of transformers that vtc hooks into is not what it was."""


def missing_seam(what: str) -> SeamError:
    """Error for one missing seam."""
    return SeamError(f"{what} (transformers {version('transformers')}). {REMEDY}")


def check_seams(site: Site, plan: Plan) -> None:
    """Look for every seam that a plan needs on a model.

    Raises
    ------
    ImportError
        One is missing or unknown: what it is, the tested versions, the remedy.
    """
    check_decoder(site)
    check_masks()
    check_cache_layers()
    if plan.needs("decoder") or plan.needs("vision") or plan.feedback is not None:
        _require(hasattr(kernels(), "__setitem__"), "The table of attention kernels cannot be written to")
    if plan.cuts:
        for index in range(min(plan.cuts), len(site.layers)):
            _check_layer(site.layers[index], index)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise missing_seam(what)


def check_decoder(site: Site) -> None:
    """Arguments of the decoder by name, and its rotary embedding."""
    forward = _forward(site.decoder)
    if not parameters(forward) and any(hasattr(site.decoder, name) for name in WRAPPED):
        return  # it hands on what it gets
    name = type(site.decoder).__name__
    for meaning in ("cache", "embeds", "mask", "positions"):
        _require(
            name_of(meaning, forward) is not None,
            f"The decoder {name} takes no argument by any of the names {_listed(meaning)}, but {_given(forward)}",
        )


def _check_layer(layer: nn.Module, index: int) -> None:
    forward = _forward(layer)
    kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds and name_of("cache", forward) is None:
        forward = _forward(getattr(layer, "self_attn", layer))  # handed on as it comes
    kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
    known = name_of("cache", forward) is not None or inspect.Parameter.VAR_KEYWORD in kinds
    _require(
        known,
        f"Decoder layer {index} ({type(layer).__name__}) takes its cache by none of the names {_listed('cache')}, "
        f"but {_given(forward)}",
    )


def check_masks() -> None:
    """Arguments of the functions that make masks."""
    for kind, maker in MAKERS.items():
        taken = parameters(maker)
        for name in ("config", NAMES["embeds"][0], NAMES["mask"][0], "or_mask_function", "and_mask_function"):
            _require(name in taken, f"The mask function {_name(maker)} ({kind}) has no argument {name!r}: {taken}")
        known = name_of("cache", maker) is not None
        _require(known, f"The mask function {_name(maker)} takes its cache by none of {_listed('cache')}: {taken}")


def check_cache_layers(layer: type = DynamicLayer) -> None:
    """Contract of cache layers."""
    for name, arguments in LAYER_CONTRACT.items():
        method = getattr(layer, name, None)
        _require(callable(method), f"Cache layers ({layer.__name__}) have no method {name!r}")
        taken = parameters(method)  # type: ignore[arg-type]
        lacking = [a for a in arguments if a not in taken]
        _require(not lacking, f"{layer.__name__}.{name} takes {taken}, not {arguments}")


def check_cache(cache: object) -> None:
    """A cache that a prefill is to fill.

    Raises
    ------
    TypeError
        It is none of transformers' kind.
    """
    if cache is None:
        return
    if getattr(cache, "layers", None) is None or not hasattr(cache, "get_seq_length"):
        raise TypeError(
            f"The cache is a {type(cache).__name__}, which vtc cannot make smaller: it has no layers of transformers' "
            "kind. Pass a transformers.DynamicCache or StaticCache, or none."
        )


def check_layer_output(module: nn.Module, args: tuple, output: object) -> None:
    """A decoder layer must return its rows alone.

    Raises
    ------
    ImportError
        It returns something else.
    """
    if not isinstance(output, Tensor):
        raise missing_seam(
            f"The decoder layer {type(module).__name__} returns a {type(output).__name__} where vtc expects a tensor"
        )


def check_features(output: object, modality: str, base: type) -> None:
    """A feature method must return its rows where everybody reads them.

    Raises
    ------
    ImportError
        They are not there.
    """
    if getattr(output, FEATURES, None) is None:
        raise missing_seam(
            f"get_{modality}_features of {base.__name__} returned a {type(output).__name__} without {FEATURES!r}, "
            "where vtc reads the rows that enter the prompt"
        )


def check_output(output: Any, forward: Forward) -> Cache | None:
    """The decoder's output must have its rows by name, and the cache that was counted; returns that cache.

    Raises
    ------
    ImportError
        It has no rows by name.
    RuntimeError
        It has another cache than the one it was given.
    """
    if not isinstance(getattr(output, "last_hidden_state", None), Tensor):
        raise missing_seam(
            f"The decoder returned a {type(output).__name__} without 'last_hidden_state'; if return_dict=False was "
            "asked for, leave it out"
        )
    names = [name for name in NAMES["cache"] if name in output.keys()]  # old names answer, too, with a warning
    cache = output[names[0]] if names else None
    known = forward.past.cache
    if cache is not None and known is not None and cache is not known:
        raise RuntimeError(
            f"The decoder returned a {type(cache).__name__} that vtc never saw, so nobody knows what it holds: this "
            f"answer cannot be trusted. {REMEDY}"
        )
    return cache if known is None else known


def _forward(module: nn.Module) -> Callable:
    return type(module).forward


def _name(function: Callable) -> str:
    return getattr(function, "__name__", repr(function))


def _listed(meaning: str) -> str:
    return " or ".join(map(repr, NAMES[meaning]))


def _given(function: Callable) -> str:
    return ", ".join(parameters(function)) or "nothing by name"
