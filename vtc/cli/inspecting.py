"""``vtc inspect``: what a model is to this library, and which methods work on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from . import values
from .output import print_json, print_table


def inspect(
    model: Annotated[str, typer.Argument(help="Embedded name, folder or Hub id.")],
    image: Annotated[Path | None, typer.Option(help="Image to lay out; a bundled one if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show what vtc reads of a model, its facts, the tokens of an image, and which methods work on it (and why not)."""
    from vtc.adapters import find_adapter
    from vtc.demos.embedded import sample
    from vtc.families import describe

    from .loading import load

    picture = sample(model)[0] if image is None else values.read_image(image)
    loaded = load(model, device)
    adapter = find_adapter(loaded.model)
    facts = adapter.facts(loaded.model)
    result = {
        "model": loaded.name,
        "family": adapter.family,
        "notes": adapter.notes or None,
        "reads": describe(adapter, loaded.model),
        "facts": asdict(facts),
        "image_size": list(picture.size),
        "layout": _layout(loaded.model, loaded.processor, picture),
        "methods": _methods(facts),
    }
    if as_json:
        print_json(result)
    else:
        _show(result)


def _layout(model: Any, processor: Any, picture: Any) -> list[dict[str, Any]]:
    """Lattices of the tokens of one image, as one forward delivers them."""
    import torch

    import vtc
    from vtc.chat import build_inputs

    inputs = build_inputs(processor, [([picture], "?")], model.device)
    with vtc.patched(model, "random", keep=0.5, processor=processor) as handle, torch.no_grad():
        model(**inputs)
        records = [] if handle.last is None else handle.last.images
        units = [record.unit.filled() for record in records]
    return [
        {
            "modality": u.modality,
            "tokens": u.length,
            "lattices": [list(g) for g in u.part_grids],
        }  # (rows, columns)
        for u in units
    ]


def _methods(facts: Any) -> list[dict[str, Any]]:
    from vtc.methods import list_methods, make_method

    found = []
    for name in list_methods():
        try:
            make_method(name).stages(facts)
            found.append({"name": name, "works": True, "reason": None})
        except ValueError as error:
            found.append({"name": name, "works": False, "reason": str(error)})
    return found


def _show(result: dict[str, Any]) -> None:
    typer.echo(f"{result['model']}: family {result['family']}" + (f" ({result['notes']})" if result["notes"] else ""))
    print_table(["what", "where"], list(result["reads"].items()))
    print_table(["fact", "value"], list(result["facts"].items()))
    width, height = result["image_size"]
    for unit in result["layout"]:
        shapes = ", ".join(f"{h} x {w}" for h, w in unit["lattices"])
        typer.echo(f"{width} x {height} pixels become {unit['tokens']} tokens, in rows x columns: {shapes}")
    rows = [(m["name"], "yes" if m["works"] else "no", m["reason"]) for m in result["methods"]]
    print_table(["method", "works", "why not"], rows)
