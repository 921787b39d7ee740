"""``vtc families``: what vtc reads of every family."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import print_json, print_table


def families(
    family: Annotated[str | None, typer.Argument(help="One of them, as `vtc models` lists it.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Print the page docs/families.md.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show tower, feature layer, decoder, placeholders, geometry and policy of the families."""
    from vtc import families as told
    from vtc.adapters import as_adapter, list_adapters

    if page:
        typer.echo(told.render(), nl=False)
        return
    chosen = list_adapters() if family is None else [as_adapter(family, "")]
    found = {a.family: told.describe(a, told.specimen(a.family)) for a in chosen}
    if as_json:
        print_json(found if family is None else found[chosen[0].family])
        return
    for adapter in chosen:
        print_table(["what", "where"], list(found[adapter.family].items()), f"{adapter.family}: {adapter.notes}")
