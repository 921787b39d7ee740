"""Load embedded models by name and others through the Auto classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.pretrained import from_pretrained

from . import values
from .errors import debugging
from .values import nearest, one_reason


@dataclass(frozen=True)
class Loaded:
    """A model with its processor; ``note`` is that of an embedded model."""

    name: str
    model: Any
    processor: Any
    note: str = ""


def load(name: str, device: str = "auto") -> Loaded:
    """Load a model for inference.

    Parameters
    ----------
    name : str
        Embedded name, folder, or model id of the Hugging Face Hub.
    device : str
        ``"auto"`` takes a CUDA device when there is one.

    Raises
    ------
    ValueError
        The model is no vision-language model, or there is no such device.
    OSError
        It cannot be found or read.
    """
    from vtc.demos.embedded import EMBEDDED, load_embedded

    place = values.device(device)
    be_quiet()
    if name in EMBEDDED:
        import torch

        torch.set_num_threads(1)  # too small to gain from more threads, which only wait for one another
        model, processor = load_embedded(name)
        return Loaded(name, model.to(place), processor, EMBEDDED[name].note)
    _check_exists(name, list(EMBEDDED))
    _check_is_vlm(name)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = from_pretrained(AutoProcessor, name)
        model = from_pretrained(AutoModelForImageTextToText, name, dtype="auto").to(place)
    except (OSError, ValueError, ImportError) as error:
        raise OSError(f"Cannot load {name!r}: {one_reason(error)}.") from error
    return Loaded(_short(name), model.eval(), processor)


def load_config(name: str) -> Any:
    """Load the configuration of a model, as :func:`load` finds it, without its weights.

    Raises
    ------
    OSError
        It cannot be found or read.
    """
    from vtc.demos.embedded import EMBEDDED

    be_quiet()
    if name in EMBEDDED:
        return _config(str(EMBEDDED[name].path))
    _check_exists(name, list(EMBEDDED))
    return _config(name)


def _short(name: str) -> str:
    return Path(name).resolve().name if Path(name).exists() else name


def be_quiet() -> None:
    """Silence transformers, unless ``VTC_DEBUG=1``."""
    if debugging():
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _check_exists(name: str, embedded: list[str]) -> None:
    """Refuse what can be neither a folder nor a Hub id, before anything is looked up in a network."""
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "~", os.sep)) or name.count("/") != 1
    if not path.exists() and looks_local:
        raise FileNotFoundError(
            f"Model {name!r} does not exist: no such folder, and no embedded model.{nearest(name, embedded)} "
            f"Embedded: {', '.join(embedded)}."
        )
    if path.exists() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"Model folder {name!r} holds no config.json.")


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return from_pretrained(AutoConfig, name)
    except (OSError, ValueError) as error:
        raise OSError(f"Cannot load the configuration of {name!r}: {one_reason(error)}.") from error


def _check_is_vlm(name: str) -> None:
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    config = _config(name)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model and no vision-language model: "
            "there are no visual tokens to cut. See `vtc models` for the families."
        )
