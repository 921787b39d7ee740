"""Which class of lmms-eval evaluates which kind of checkpoint, and what it needs on this machine."""

from __future__ import annotations

import gc
import os
from typing import Any

from vtc.pretrained import from_pretrained

GENERIC = "generic"
BASES = {
    "llava": "llava_hf",
    "llava_next": "llava_hf",
    "llava_onevision": "llava_hf",
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "qwen3_5": "qwen3_5",
    "internvl": "internvl_hf",
    "gemma3": "gemma3",
}
"""``model_type`` of a checkpoint -> model name of lmms-eval; all others go to :class:`.generic.Generic`."""


def base_name(args: dict[str, Any]) -> str:
    """Choose the base by the ``model_type`` of the checkpoint ``pretrained``.

    Raises
    ------
    ValueError
        No checkpoint named.
    OSError
        Its configuration cannot be read.
    """
    from transformers import AutoConfig

    if "pretrained" not in args:
        raise ValueError("pretrained=... is missing: pass a folder or a model id, or name the class with base=....")
    passed = {name: args[name] for name in ("revision", "trust_remote_code") if name in args}
    config = from_pretrained(AutoConfig, args["pretrained"], **passed)
    return BASES.get(config.model_type, GENERIC)


def base_class(name: str, simple: bool) -> type:
    """Class that lmms-eval itself resolves for ``name``; chat if there is one, unless ``simple``.

    Raises
    ------
    ImportError
        The class cannot be imported.
    ValueError
        lmms-eval does not know the name, or the class holds no model that could be patched.
    """
    if name == GENERIC:
        from .generic import Generic

        return Generic
    from lmms_eval.models import get_model

    if name == "vtc":
        raise ValueError("base=vtc is this model itself; name the class below it, such as base=llava_hf.")
    try:
        return get_model(name, force_simple=simple)
    except ImportError as error:
        raise ImportError(
            f"lmms-eval's class {name!r} cannot be imported here ({error}). Install what it names, or pass "
            f"base={GENERIC}, which needs transformers only."
        ) from error


def fit_machine(name: str, args: dict[str, Any], named: list[str]) -> dict[str, Any]:
    """Fill in the device where lmms-eval's defaults do not work: on machines without CUDA, and for llava_hf.

    With several processes the arguments stay as they are: the empty ``device_map`` of the base classes is what makes
    them place one replica per GPU; on CPU every process takes its own.
    """
    import torch

    args = dict(args)
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    if "device" in named:
        args.setdefault("device", "cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = str(args.get("device")) == "cpu"
    if "device_map" in named and (on_cpu or (alone and name == "llava_hf")):
        args.setdefault("device_map", args["device"])
    return args


def use_prompts_of(name: str) -> None:
    """Make the tasks, which are built later, choose the prompts written for the base model.

    lmms-eval picks prompts by the ``--model`` text and keeps that text on its task manager.
    """
    from lmms_eval.tasks import TaskManager

    for manager in (o for o in gc.get_objects() if type(o) is TaskManager):
        if manager.model_name == "vtc":
            manager.model_name = name
