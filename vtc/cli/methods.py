"""``vtc methods``: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .output import print_json, print_table


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False) -> None:
    """List the methods by the place where they act, with what they read, their papers and options."""
    from vtc.cards import PLACES, cards

    found = cards()
    if as_json:
        rows = [asdict(c) | {"paper": c.paper or None, "reads": list(c.reads)} for c in found]
        print_json([row | {"options": list(row["options"])} for row in rows])
        return
    for place in PLACES:
        mine = [c for c in found if c.place == place]
        title = "Before and inside the language model" if place == "both" else place.capitalize()
        table = [(c.name, c.summary, ", ".join(c.reads) or None, c.paper or None, " ".join(c.options)) for c in mine]
        if table:
            print_table(["method", "what it does", "what it reads", "arXiv", "options"], table, title)
