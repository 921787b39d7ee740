"""What each family is to vtc: told from the adapters and tiny models, and the page of all families."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from vtc.adapters import Adapter, Geometry, list_adapters  # type: ignore[import-not-found,unused-ignore]

HEAD = """# Families

<!-- Made by `make pages` from the adapters and tiny models with random weights; a test compares. Do not edit. -->

What vtc knows of every family, as `vtc families NAME` prints it and `vtc inspect MODEL` does for a checkpoint. Modules
and fields of the configuration are named as they are below the model. The README has a table of methods. Other families
that follow transformers' conventions go through `adapters/generic.py`, language models alone that are handed
embeddings through `adapters/explicit.py`; for others see [write a family](write-a-family.md).
"""


def describe(adapter: Adapter, model: nn.Module) -> dict[str, str]:
    """What vtc reads of a model: names of modules and fields, geometries, policy.

    Parameters
    ----------
    adapter : Adapter
    model : nn.Module
        One of its family.

    Returns
    -------
    dict of str to str
        In the order of the page; what a family lacks is left out.
    """
    told = {
        "tower": ", ".join(dict.fromkeys(_towers(adapter, model))),
        "feature layer": _field(adapter.config(model), adapter.feature_fields) or "the last block",
        "blocks that see the whole image": adapter.global_field,
        "decoder": _name(model, adapter.decoder(model)),
        "layers with added rows": _deepstack(adapter, model),
        "placeholders": ", ".join(_placeholders(adapter, model)),
    }
    for modality in adapter.modalities:
        told[modality] = repr(adapter.geometry(modality))
    told["policy"] = adapter.policy.describe()
    return {what: text for what, text in told.items() if text}


def _towers(adapter: Adapter, model: nn.Module) -> Iterator[str]:
    for modality in adapter.modalities:
        tower = adapter.tower(model, modality)
        if tower is not None:
            yield _name(model, tower)


def _deepstack(adapter: Adapter, model: nn.Module) -> str:
    return "vision_config.deepstack_visual_indexes" if adapter.deepstack(model) else ""


def _placeholders(adapter: Adapter, model: nn.Module) -> Iterator[str]:
    for modality in adapter.token_ids(model):
        yield f"{modality} {_field(adapter.config(model), adapter.placeholders[modality])}"


def _field(config: Any, names: tuple[str, ...]) -> str:
    """First of the fields that is set."""
    return next((name for name in names if getattr(config, name, None) is not None), "")


def _name(model: nn.Module, module: nn.Module) -> str:
    return next((name for name, found in model.named_modules() if found is module), "") or "the model itself"


@functools.cache
def specimen(family: str) -> nn.Module:
    """Tiny model of a family, with random weights.

    Raises
    ------
    ValueError
        vtc has none, or it needs a newer transformers.
    """
    from .proof.models import cases_of, too_old
    from .proof.models.pi0 import build_pi0
    from .proof.proving import POLICY

    since = too_old().get(family)
    made: list[Callable[[], Any]] = [case.build for case in cases_of(family)]
    if family == POLICY and since is None:
        made = [functools.partial(build_pi0, layers=1)]
    if not made:
        need = "" if since is None else f": that needs transformers >= {since}"
        raise ValueError(f"vtc has no tiny model of family {family!r}{need}. `vtc inspect MODEL` reads one of yours.")
    return made[0]()


def built_in() -> list[Adapter]:
    """Adapters of vtc itself, without those of installed packages."""
    return [
        a for a in list_adapters() if type(a).__module__.rpartition(".")[0] == Adapter.__module__.rpartition(".")[0]
    ]


def render() -> str:
    """Markdown page of all built-in families and their geometries."""
    parts, kinds = [HEAD], set()
    for adapter in built_in():
        file = type(adapter).__module__.rsplit(".", 1)[-1]
        lines = [
            f"- {what}: {_marked(what, text)}" for what, text in describe(adapter, specimen(adapter.family)).items()
        ]
        parts.append(f"## {adapter.family}\n\n{adapter.notes} ([adapters/{file}.py](../adapters/{file}.py))\n")
        parts.append("\n".join(lines) + "\n")
        kinds |= {type(adapter.geometry(m)) for m in adapter.modalities}
    parts.append("## Geometries\n")
    parts += [f"- `{kind.__name__}`: {_summary(kind)}" for kind in sorted(kinds, key=lambda k: k.__name__)]
    return "\n".join(parts) + "\n"


def _marked(what: str, text: str) -> str:
    if what == "policy" or text.startswith("the "):
        return text
    if what == "placeholders":
        return ", ".join("{} `{}`".format(*part.split()) for part in text.split(", "))
    return ", ".join(f"`{part}`" for part in text.split(", ")) if what == "tower" else f"`{text}`"


def _summary(kind: type[Geometry]) -> str:
    """First paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("``", "`")


if __name__ == "__main__":
    Path("docs/families.md").write_text(render(), encoding="utf-8")
