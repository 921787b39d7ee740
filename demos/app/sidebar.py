"""The sidebar: model, method, strength, and the method's own options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from vtc.methods import list_methods, method_class

from .errors import readable
from .limits import KEEP_SECONDS, LEAST_KEEP, MAX_OPTION
from .models import Shelf
from .settings import Option, method_options

FIRST_METHOD = "vtc-cls"


def build_sidebar(shelf: Shelf, load: Callable) -> tuple[gr.Dropdown, gr.Dropdown, gr.Slider, gr.State, gr.Markdown]:
    """Controls for model, method and keep, the State of chosen options, and a line on what stays."""
    with gr.Sidebar(width=330):
        gr.Markdown("# vtc\nFewer visual tokens, the same answer?", elem_classes="vtc-title")
        names = list_methods()
        first = FIRST_METHOD if FIRST_METHOD in names else names[0]
        model = gr.Dropdown(shelf.names, value=shelf.names[0], label="Model", elem_id="model")
        note = gr.Markdown(shelf.note(shelf.names[0]), elem_classes="vtc-note")
        method = gr.Dropdown(names, value=first, label="Method", elem_id="method")
        about = gr.Markdown(_about(first), elem_classes="vtc-note")
        info = "Share of the visual tokens"
        keep = gr.Slider(LEAST_KEEP, 1.0, 0.25, step=0.01, label="Keep", info=info, elem_id="keep")
        counted = gr.Markdown("", elem_id="counted", elem_classes="vtc-count")
        chosen = gr.State({}, time_to_live=KEEP_SECONDS)
        with gr.Accordion("Options of the method", open=False, elem_id="options"):
            _build_options(model, method, chosen, load)
    model.change(shelf.note, model, note, queue=False, show_progress="hidden", api_visibility="private")
    method.change(_about, method, about, queue=False, show_progress="hidden", api_visibility="private")
    return model, method, keep, chosen, counted


def _about(method: str) -> str:
    cls = method_class(method)
    paper = f" ([arXiv {cls.paper}](https://arxiv.org/abs/{cls.paper}))" if cls.paper else ""
    return f"{cls.summary}{paper}"


def _build_options(model: gr.Dropdown, method: gr.Dropdown, chosen: gr.State, load: Callable) -> None:
    """Form of the current method; what is set is kept per method, so going back finds it again."""

    # `chosen` is read from the inputs but triggers nothing: a form that is redrawn while somebody types loses the focus
    @gr.render(inputs=[model, method, chosen], triggers=[model.change, method.change, load])
    def form(model_name: str, name: str, given: dict[str, dict[str, Any]]) -> None:
        _form(model_name, name, given, chosen)


def _form(model: str, method: str, given: dict[str, dict[str, Any]], chosen: gr.State) -> None:
    values = given.get(method, {})
    for option in method_options(method):
        control = _control(option, values.get(option.name, option.default), f"{model}-{method}-{option.name}")

        def store(value: Any, current: dict[str, Any], option: Option = option) -> dict[str, Any]:
            return {**current, method: {**current.get(method, {}), option.name: option.parse(value)}}

        event = control.blur if isinstance(control, (gr.Number, gr.Textbox)) else control.change
        # through the queue: only then does gradio tell the listeners of `chosen` that it changed
        event(readable(store), [control, chosen], chosen, show_progress="hidden", api_visibility="private")


def _control(option: Option, value: Any, key: str) -> Any:
    label, info = option.name, option.help or None
    if option.kind == "choice":
        choices = [str(choice) for choice in option.choices]
        shown = [("default", ""), *((c, c) for c in choices)] if option.optional else choices
        return gr.Dropdown(shown, value="" if value is None else str(value), label=label, info=info, key=key)
    if option.kind == "flag":
        return gr.Checkbox(bool(value), label=label, info=info, key=key)
    if option.kind in ("whole", "number"):
        precision = 0 if option.kind == "whole" else None
        hint = "default" if option.optional else None
        return gr.Number(value, label=label, info=info, precision=precision, placeholder=hint, key=key)
    text = "" if value is None else str(value)
    return gr.Textbox(text, label=label, info=info, placeholder="default", max_length=MAX_OPTION, key=key)
