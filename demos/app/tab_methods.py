"""Tab "Methods": all methods at one budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from vtc.methods import list_methods
from vtc.viz import overlay

from .context import LANE, Context
from .errors import clean, readable
from .files import stored
from .numbers import DASHES
from .runs import answer
from .settings import settings

_COLUMNS = ["method", "tokens", "answer", "same", "first token ms", "tokens/s", "KV KiB"]
_WIDTHS: list[str | int] = ["100px", "80px", "200px", "70px", "110px", "90px", "80px"]


def build_methods() -> dict[str, Any]:
    """Components of the tab."""
    gr.Markdown("Every method with its own options' defaults, at the *Keep* of the sidebar.")
    return {
        "run": gr.Button("Compare all methods", variant="primary", elem_id="compare"),
        "gallery": gr.Gallery(
            label="Kept tokens",
            show_label=False,
            columns=4,
            object_fit="contain",
            height="auto",
            elem_id="gallery",
            buttons=["download", "fullscreen"],
        ),
        "table": gr.Dataframe(
            headers=_COLUMNS, interactive=False, wrap=True, column_widths=_WIDTHS, elem_id="methods-table"
        ),
    }


def connect_methods(context: Context, parts: dict[str, Any]) -> None:
    """Run method after method and show each as it is done."""
    parts["run"].click(
        readable(_comparer(context)),
        context.inputs,
        [parts["gallery"], parts["table"]],
        concurrency_limit=1,
        concurrency_id=LANE,
        show_progress="minimal",
        api_visibility="private",
    )


def _comparer(context: Context) -> Callable[..., Iterator[tuple]]:
    def compare(*values: Any) -> Iterator[tuple]:
        chosen, media, question = context.read(*values)
        pictures: list[tuple[str, str]] = []
        repeats = context.shelf.repeats(chosen.model)
        with context.shelf.use(chosen.model) as loaded:
            plain, _ = answer(loaded, None, media, question, repeats)
            rows = [["none", "all", plain.text, DASHES, *_times(plain), DASHES]]
            yield pictures, rows
            for name in list_methods():
                mine = settings(chosen.model, name, chosen.keep, {})
                try:
                    cut, look = answer(loaded, mine, media, question, repeats)
                except (ValueError, TypeError) as error:
                    rows.append([name, DASHES, clean(str(error)), DASHES, DASHES, DASHES, DASHES])
                    yield pictures, rows
                    continue
                assert look is not None
                pictures.append((_picture(look), name))
                held = look.report.data["kv_bytes"]
                kib, rows[0][-1] = f"{held['after'] / 1024:,.0f}", f"{held['before'] / 1024:,.0f}"
                rows[0][1] = str(look.record.before)
                same = "yes" if cut.text == plain.text else "no"
                rows.append([name, str(look.record.after), cut.text, same, *_times(cut), kib])
                yield pictures, rows

    return compare


def _picture(look: Any) -> str:
    film = len(look.pictures) > 1
    return stored(look.picture() if film else overlay(look.pictures, look.record, legend=False))


def _times(partial: Any) -> list[str]:
    first = DASHES if partial.first is None else f"{1000 * partial.first:.1f}"
    return [first, DASHES if partial.rate is None else f"{partial.rate:.0f}"]
