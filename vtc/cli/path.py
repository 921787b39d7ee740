"""``vtc path``: where embedded things lie."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import print_json
from .values import nearest


def path(
    name: Annotated[str, typer.Argument(help="Name of an embedded model, or `photo`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Print the folder of an embedded model, for `from_pretrained`, or the file of the bundled photograph."""
    from vtc.demos.embedded import EMBEDDED, PHOTO

    places = {"photo": PHOTO, **{e.name: e.path for e in EMBEDDED.values()}}
    if name not in places:
        raise ValueError(
            f"Nothing embedded is called {name!r}.{nearest(name, list(places))} Choose: {', '.join(places)}."
        )
    if as_json:
        print_json({"name": name, "path": str(places[name])})
    else:
        typer.echo(str(places[name]))
