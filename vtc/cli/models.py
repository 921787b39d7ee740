"""``vtc models``: supported families and embedded models."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import print_json, print_table


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False) -> None:
    """List the supported families and the embedded models."""
    from vtc.adapters import list_adapters
    from vtc.demos.embedded import EMBEDDED

    families = [
        {"family": a.family, "model_types": list(a.model_types), "notes": a.notes or None} for a in list_adapters()
    ]
    embedded = [{"name": e.name, "summary": e.summary, "path": str(e.path)} for e in EMBEDDED.values()]
    if as_json:
        print_json({"families": families, "embedded": embedded})
        return
    rows = [(f["family"], " ".join(f["model_types"] or ["any other"]), f["notes"]) for f in families]
    print_table(["family", "model types", "notes"], rows, "Families")
    print_table(["name", "what it is"], [(e["name"], e["summary"]) for e in embedded], "Embedded models")
