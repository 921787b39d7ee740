"""A user's config made tiny: its switches, names and kinds of layers stay, everything that counts shrinks."""

from __future__ import annotations

import itertools
import numbers
from dataclasses import replace
from typing import Any

import torch

from vtc.adapters import list_adapters

from .models import Case, all_cases, cases_of
from .models.configs import seeded
from .models.parts import TEXT, lively

SIZES: dict[str, int] = {
    **{k: v for k, v in TEXT.items() if isinstance(v, int)},
    "head_dim": 8,
    "sliding_window": 40,
    "attention_chunk_size": 40,
    "max_window_layers": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "query_pre_attn_scalar": 8,
}
"""Numbers of decoders that no tiny model of the family has a value for."""
_TOKENS = ("vision_feature_select_strategy", "vision_aspect_ratio", "spatial_pool_mode")
"""Switches that decide how many tokens an image becomes: the tiny images are made for the tiny model's."""
_DROPPED = ("dtype", "torch_dtype", "quantization_config", "transformers_version", "_name_or_path")
_SMALL = 8
"""Unknown numbers up to this one are left as they are."""


class _TooStrange(Exception):
    """A config has something this module knows no small value for; the message says what."""


def shrunk(config: Any) -> Case:
    """Make a set-up of a model like ``config`` with the sizes of the family's tiny model.

    Parameters
    ----------
    config : PretrainedConfig
        Of a vision-language model of a family vtc knows.

    Raises
    ------
    TypeError
        No config of transformers.
    ValueError
        It cannot be shrunk; the message says why, and what can be proved instead.
    """
    kind = getattr(config, "model_type", None)
    if kind is None or not hasattr(config, "to_dict"):
        raise TypeError(f"{type(config).__name__} is no family, model or config: pass a family's name or a model.")
    family = next((a.family for a in list_adapters() if kind in a.model_types), "")
    if not family:
        known = sorted({c.family for c in all_cases().values()})
        raise ValueError(f"A config of {kind!r} cannot be shrunk: no family of vtc. Known: {', '.join(known)}.")
    try:
        case, tiny = _nearest(config, family)
        made = type(config).from_dict(_section(config.to_dict(), tiny.config.to_dict(), ""))
        model = seeded(lambda: lively(type(tiny)._from_config(made)))
        with torch.no_grad():
            model(**case.batch())
    except Exception as error:  # configs can hold anything, and building one may fail anywhere
        what = str(error) if isinstance(error, _TooStrange) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"This config of {kind!r} cannot be shrunk: {' '.join(what.split())[:300]}. Prove the family's own tiny "
            f"models instead: vtc doctor --prove --family {family}."
        ) from error
    return replace(case, name=f"{family} as configured", build=lambda: model)


def _nearest(config: Any, family: str) -> tuple[Case, Any]:
    """Set-up of the family most like ``config``, and its model."""

    def likeness(entry: tuple[Case, Any]) -> int:
        return sum(_kind(entry[1].config, part) == _kind(config, part) for part in ("vision_config", "text_config"))

    built = ((c, c.build()) for c in cases_of(family))
    fitting = [(c, m) for c, m in built if m.config.model_type == config.model_type]
    if not fitting:
        raise _TooStrange(f"vtc has no tiny model of model_type {config.model_type!r}")
    case, tiny = max(fitting, key=likeness)
    if _kind(tiny.config, "vision_config") != _kind(config, "vision_config"):
        raise _TooStrange(f"vtc has no inputs for vision towers of type {_kind(config, 'vision_config')!r} here")
    return case, tiny


def _kind(config: Any, part: str) -> Any:
    return getattr(getattr(config, part, None), "model_type", None)


def _section(mine: dict[str, Any], tiny: dict[str, Any], where: str) -> dict[str, Any]:
    layers = tiny.get("num_hidden_layers", TEXT["num_hidden_layers"])
    return {k: _value(k, v, tiny.get(k), layers, f"{where}{k}") for k, v in mine.items() if k not in _DROPPED}


def _value(key: str, mine: Any, tiny: Any, layers: int, where: str) -> Any:
    """Value for one key: ``mine`` where it is a switch, a name or a real number, else a small one."""
    if key == "layer_types" and mine:
        return list(itertools.islice(itertools.cycle(dict.fromkeys(mine)), layers))  # every kind, in order
    if key.startswith("rope_") and isinstance(mine, dict):
        return _rope(mine, tiny if isinstance(tiny, dict) else {})
    if key.endswith("_config") and isinstance(mine, dict):
        return _section(mine, tiny, f"{where}.") if isinstance(tiny, dict) else tiny
    if key in _TOKENS or key.endswith(("_token_id", "_token_index")):
        return tiny
    if key.startswith("vision_feature_layer") and isinstance(mine, int) and -layers <= mine < 0:
        return mine
    if mine is None or isinstance(mine, (bool, str)) or _is_real(mine):
        return mine
    if tiny is not None and not isinstance(tiny, bool):
        return tiny
    if isinstance(mine, int):
        if key in SIZES or abs(mine) <= _SMALL:
            return SIZES.get(key, mine)
        raise _TooStrange(f"vtc knows no small value for {where}={mine}")
    if not mine or key in ("architectures", "id2label", "label2id", "keys_to_ignore_at_inference"):
        return mine
    raise _TooStrange(f"vtc knows no small value for {where}={str(mine)[:60]}")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, int)


def _rope(mine: dict[str, Any], tiny: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters for heads of 8: sections and factors per frequency get as many entries as there are."""
    half = SIZES["head_dim"] // 2
    found: dict[str, Any] = {}
    for key, value in mine.items():
        if isinstance(value, dict):
            inner = tiny.get(key)
            found[key] = _rope(value, inner if isinstance(inner, dict) else {})
        elif key == "mrope_section":
            found[key] = tiny.get(key, [1, 1, 2])
        else:
            found[key] = value[:half] if isinstance(value, list) else value
    # configs may leave the sections to a default in the model's code, which is for larger heads
    return {**{k: v for k, v in tiny.items() if k == "mrope_section"}, **found}
