"""Tab "Code": the snippet for what the page shows."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .code import command_code, config_code, python_code
from .context import Context
from .errors import readable


def build_code() -> list[gr.Code]:
    """Three boxes: Python, command line, configuration."""
    wrapped: dict[str, Any] = {"interactive": False, "wrap_lines": True}
    return [
        gr.Code(label="Python", language="python", elem_id="code-python", lines=13, **wrapped),
        gr.Code(label="Command line", language="shell", elem_id="code-shell", lines=2, max_lines=4, **wrapped),
        gr.Code(label="Configuration, for vtc.load", language="json", elem_id="code-json", **wrapped),
    ]


def connect_code(context: Context, boxes: list[gr.Code], tab: gr.Tab) -> None:
    """Write the code anew when the tab opens, and at every change while it is open."""

    def write(*values: Any) -> tuple[str, str, str]:
        chosen, media, question = context.read(*values)
        return python_code(chosen, media, question), command_code(chosen, question), config_code(chosen)

    for change in (*(control.change for control in context.inputs), tab.select):
        change(readable(write), context.inputs, boxes, queue=False, show_progress="hidden", api_visibility="private")
