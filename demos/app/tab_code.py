"""Tab "Code": the snippet for what the page shows."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .code import command_code, config_code, python_code
from .context import Context
from .errors import readable


def build_code() -> list[gr.Code]:
    """Three boxes: Python, command line, configuration."""
    return [
        gr.Code(label="Python", language="python", interactive=False, elem_id="code-python", wrap_lines=True, lines=13),
        gr.Code(label="Command line", language="shell", interactive=False, elem_id="code-shell", wrap_lines=True, lines=2, max_lines=4),
        gr.Code(label="Configuration, for vtc.load", language="json", interactive=False, elem_id="code-json"),
    ]


def connect_code(context: Context, boxes: list[gr.Code], tab: gr.Tab) -> None:
    """Write the code anew when the tab opens, and at every change while it is open."""

    def write(*values: Any) -> tuple[str, str, str]:
        chosen, media, question = context.read(*values)
        return python_code(chosen, media, question), command_code(chosen, question), config_code(chosen)

    for change in (*(control.change for control in context.inputs), tab.select):
        change(readable(write), context.inputs, boxes, queue=False, show_progress="hidden", api_visibility="private")
