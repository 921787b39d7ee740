"""Tab "Numbers": the committed benchmark, and times measured here and now."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from vtc.methods import list_methods
from vtc.viz import OKABE_ITO

from .context import LANE, Context
from .errors import readable
from .numbers import HOW_TO, curve, read_quality
from .runs import first_token_ms
from .settings import settings

_REPEATS = 5
_LINES = len(OKABE_ITO)


def build_numbers(shelf_names: list[str]) -> dict[str, Any]:
    """Components of the tab."""
    rows = read_quality()
    parts: dict[str, Any] = {}
    gr.Markdown("### Accuracy over kept tokens")
    if rows:
        models = list(dict.fromkeys(row["model"] for row in rows))
        families = list(dict.fromkeys(row["family"] for row in rows))
        with gr.Row():
            parts["model"] = gr.Dropdown(models, value=models[0], label="Model of the benchmark", elem_id="bench-model")
            first = "all" if "all" in families else families[0]
            parts["family"] = gr.Dropdown(families, value=first, label="Questions", elem_id="bench-family")
        methods = sorted({row["method"] for row in rows} - {"none"})
        parts["methods"] = gr.CheckboxGroup(
            methods, value=methods[:_LINES], label="Methods", info=f"Up to {_LINES} have colours of their own"
        )
        data, plot = _curve(models[0], first, methods[:_LINES])
        parts["plot"] = plot
        with gr.Accordion("The same as a table", open=False):
            parts["table"] = gr.Dataframe(data, interactive=False, elem_id="curve-table")
    else:
        gr.Markdown(HOW_TO, elem_id="how-to")
    gr.Markdown("### Time to the first token, measured here")
    parts["run"] = gr.Button("Measure", elem_id="measure")
    parts["bars"] = gr.BarPlot(
        None, x="method", y="first token (ms)", height=300, x_label_angle=-40, sort="y", elem_id="bars", visible=False
    )
    parts["note"] = gr.Markdown(
        f"Median of {_REPEATS} runs after a warm-up, with the picture, question, model and *Keep* of the page.",
        elem_id="bars-note",
    )
    return parts


def connect_numbers(context: Context, parts: dict[str, Any]) -> None:
    """Redraw the curve for other questions; measure on the button."""
    if "plot" in parts:
        controls = [parts["model"], parts["family"], parts["methods"]]
        for control in controls:
            control.change(
                readable(_curve),
                controls,
                [parts["table"], parts["plot"]],
                show_progress="hidden",
                api_visibility="private",
            )
    parts["run"].click(
        readable(_measurer(context)),
        context.inputs,
        [parts["bars"], parts["note"]],
        concurrency_limit=1,
        concurrency_id=LANE,
        show_progress="minimal",
        api_visibility="private",
    )


def colors(methods: list[str]) -> dict[str, str]:
    """Colour-blind-safe colours in turn; no compression is grey."""
    cycle = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in OKABE_ITO]
    return {name: cycle[i % len(cycle)] for i, name in enumerate(methods)} | {"none": "#808080"}


def _curve(model: str, family: str, methods: list[str]) -> tuple[Any, gr.LinePlot]:
    data = curve(read_quality(), model, family)
    data = data[data["method"].isin([*methods, "none"])]
    plot = gr.LinePlot(
        data,
        x="tokens kept (%)",
        y="accuracy (%)",
        color="method",
        color_map=colors(methods),
        height=360,
        y_lim=[0, 100],
        elem_id="curve",
    )
    return data, plot


def _measurer(context: Context) -> Callable[..., Iterator[tuple]]:
    def measure(*values: Any) -> Iterator[tuple]:
        import pandas as pd

        chosen, media, question = context.read(*values)
        found: list[tuple[str, float]] = []
        with context.shelf.use(chosen.model) as loaded:
            parameter = next(loaded.model.parameters())
            where = f"{_device(parameter.device)}, {str(parameter.dtype).removeprefix('torch.')}"
            for name in ["none", *list_methods()]:
                mine = None if name == "none" else settings(chosen.model, name, chosen.keep, {})
                try:
                    found.append((name, round(first_token_ms(loaded, mine, media, question, _REPEATS), 2)))
                except (ValueError, TypeError):
                    continue  # the Methods tab tells why a method does not run on this model
                data = pd.DataFrame(found, columns=["method", "first token (ms)"])
                note = f"{chosen.model} on {where}, keep={chosen.keep}: median of {_REPEATS} runs after a warm-up."
                top = 1.05 * max(ms for _, ms in found)
                yield gr.BarPlot(data, visible=True, y_lim=[0, top]), f"{note} {context.shelf.note(chosen.model)}"

    return measure


def _device(device: Any) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"
