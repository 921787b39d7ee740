"""Tab "Tokens": what stays, how it was scored, where the rest went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from vtc.core.fields import fit
from vtc.core.texts import reread
from vtc.viz import describe, modes, overlay, plain

from .context import LANE, Context
from .errors import readable
from .files import stored
from .runs import Look, look

_NAMES = {"kept": "Kept", "scores": "Scores", "order": "Order", "groups": "Merge groups"}
_HINT = "Click a patch, or type the number of a token and press Enter."


def build_tokens() -> dict[str, Any]:
    """Components of the tab."""
    parts: dict[str, Any] = {}
    with gr.Row():
        parts["mode"] = gr.Radio([("Kept", "kept")], value="kept", label="Show", elem_id="mode", scale=3)
        parts["refresh"] = gr.Button("Show tokens", elem_id="refresh", scale=1, min_width=140)
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown("**Original and painted**: drag the handle")
            parts["slider"] = gr.ImageSlider(
                label="Original and painted",
                show_label=False,
                interactive=False,
                buttons=["fullscreen"],
                elem_id="before-after",
            )
        with gr.Column(min_width=280):
            gr.Markdown("**Click a patch** to see its score, its rank and where it went")
            parts["picture"] = gr.Image(
                label="Patches", show_label=False, interactive=False, elem_id="patches", buttons=["download"]
            )
    with gr.Row():
        parts["token"] = gr.Number(label="Token", precision=0, minimum=0, elem_id="token", scale=1, min_width=120)
        parts["told"] = gr.Markdown(_HINT, elem_id="told", container=True)
    return parts


def connect_tokens(context: Context, parts: dict[str, Any], counted: gr.Markdown, load: Callable) -> None:
    """Redraw at every change where the model is quick, on the button otherwise."""
    shown = [context.look, parts["mode"], parts["slider"], parts["picture"], counted, parts["told"]]
    queued: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": LANE, "api_visibility": "private"}
    inputs = [parts["mode"], *context.inputs]
    parts["refresh"].click(readable(_refresher(context, True)), inputs, shown, **queued)
    automatic = readable(_refresher(context, False))
    changes = (context.keep.release, context.keep.input, context.method.change, context.model.change)
    for change in (*changes, context.media.change, context.chosen.change, load):
        extra: dict[str, Any] = {} if change is load else {"trigger_mode": "always_last"}
        change(automatic, inputs, shown, show_progress="hidden", **extra, **queued)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    drawn = [parts["slider"], parts["picture"]]
    parts["mode"].input(readable(_draw), [context.look, parts["mode"]], drawn, **quiet)
    parts["picture"].select(readable(_clicked), context.look, [parts["token"], parts["told"]], **quiet)
    parts["token"].submit(readable(_typed), [context.look, parts["token"]], parts["told"], **quiet)


def _refresher(context: Context, asked: bool) -> Callable:
    def refresh(mode: str, *values: Any) -> tuple:
        chosen, media, question = context.read(*values)
        if not asked and not context.shelf.quick(chosen.model):
            return *(gr.skip(),) * 4, "Press *Show tokens* or *Ask* to run this model.", gr.skip()
        with context.shelf.use(chosen.model) as loaded:
            found = look(loaded, chosen, media, question.strip() or "?")
        possible = modes(found.record)
        mode = mode if isinstance(mode, str) and mode in possible else "kept"
        radio = gr.Radio([(_NAMES[m], m) for m in possible], value=mode)
        counted = f"**{found.record.after} of {found.record.before}** visual tokens stay"
        return found, radio, *_draw(found, mode), counted, _HINT

    return refresh


def _draw(found: Look | None, mode: Any) -> tuple[Any, Any]:
    """Pair for the slider, and the picture to click on."""
    if found is None:
        return gr.skip(), gr.skip()
    before, painted = plain(found.pictures, found.record), overlay(found.pictures, found.record, mode, legend=False)
    return (stored(before), stored(painted)), stored(found.picture(mode))


def _clicked(found: Look | None, event: gr.SelectData) -> tuple[Any, str]:
    if found is None:
        return gr.skip(), _HINT
    token = found.token_at(*fit("pixel", event.index, tuple[int, int]))
    return (gr.skip(), "No token lies there.") if token is None else (token, explain(found.record, token))


def _typed(found: Look | None, token: float | None) -> str:
    return _HINT if found is None or token is None else explain(found.record, reread("token", token, int))


def explain(record: Any, token: int) -> str:
    """Sentences on one token."""
    facts = describe(record, token)
    place = "row separator" if facts["row"] is None else f"row {facts['row'] + 1}, column {facts['col'] + 1}"
    where = f", part {facts['part'] + 1}" if len(record.unit.filled().part_grids) > 1 else ""
    lines = [f"**Token {token}** ({place}{where}): **{'kept' if facts['kept'] else 'dropped'}**"]
    if facts["rank"] is not None:
        lines.append(f"rank {facts['rank']} of {facts['of']} by score ({facts['score']:.4g})")
    if facts["into"] is not None:
        lines[0] = lines[0].replace("dropped", f"merged into token {facts['into']}")
    if facts["members"] and facts["members"] > 1:
        lines.append(f"stands for {facts['members']} tokens")
    return "; ".join(lines) + "."
