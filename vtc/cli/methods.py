"""``vtc methods``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .output import print_json, print_table


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False) -> None:
    """List the methods with their papers and options."""
    from vtc.methods import list_methods, method_class

    rows: list[dict[str, Any]] = []
    for name in list_methods():
        cls = method_class(name)
        rows.append({"name": name, "summary": cls.summary, "paper": cls.paper or None, "options": list(cls.options())})
    if as_json:
        print_json(rows)
        return
    table = [(r["name"], r["summary"], r["paper"], " ".join(r["options"])) for r in rows]
    print_table(["method", "what it does", "arXiv", "options"], table)
