"""The page: sidebar and five tabs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from .context import Context
from .errors import message
from .examples import examples
from .guard import is_url
from .limits import KEEP_SECONDS, MAX_QUESTION, SWEEP_SECONDS
from .models import Shelf
from .sidebar import build_sidebar
from .tab_ask import build_answers, build_picture, connect_answers, connect_picture
from .tab_code import build_code, connect_code
from .tab_methods import build_methods, connect_methods
from .tab_numbers import build_numbers, connect_numbers
from .tab_tokens import build_tokens, connect_tokens

CSS = """
.vtc-note, .vtc-note * { font-size: 0.85rem; color: var(--body-text-color) !important; }
.vtc-note a { text-decoration: underline !important; }
.vtc-count { font-size: 1rem; }
.vtc-numbers, #report table { border: 0 !important; }
.vtc-numbers { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
.vtc-numbers tr, #report tr, .vtc-numbers th, .vtc-numbers td, #report th, #report td { border: 0 !important; }
.vtc-numbers tr, #report tr { box-shadow: 0 1px 0 var(--border-color-primary); }
.vtc-numbers th { text-align: left; font-weight: 400; padding: 3px 0 !important; }
.vtc-numbers td { text-align: right; font-weight: 600; padding: 3px 0 !important; }
.vtc-numbers th, .vtc-numbers td { white-space: nowrap; }
#report table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
#report th { text-align: right; padding: 2px 6px; }
#report td { text-align: right; padding: 2px 6px; }
#report td:first-child { text-align: left; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)) !important; }
#gallery .grid-wrap { max-height: none !important; height: auto !important; }
button:focus-visible, input:focus-visible, textarea:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
"""

# an open sidebar covers a narrow screen
_CLOSE_ON_PHONES = """() => {
  const button = document.querySelector(".sidebar.open .toggle-button");
  if (window.innerWidth < 768 && button) button.click();
}"""


def theme() -> gr.themes.Base:
    """Fonts of the system, so that nothing is fetched from elsewhere."""
    soft = gr.themes.Soft(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    # white on the theme's own light indigo has too little contrast to read
    return soft.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        block_label_text_color="*primary_800",
        block_title_text_color="*primary_800",
        block_label_text_color_dark="*primary_100",
        block_title_text_color_dark="*primary_100",
    )


class Page(gr.Blocks):
    """Blocks that read no addresses: gradio itself downloads what a client's value calls a file at a URL."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse files elsewhere, whatever component they are meant for, before anything is fetched."""
        if any(isinstance(file.get("path"), str) and is_url(file["path"]) for file in _objects(inputs)):
            raise message(ValueError("This demo fetches nothing on behalf of others: upload the file instead."))
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def _objects(data: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects inside of a value."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def build_page(shelf: Shelf) -> gr.Blocks:
    """Build the app; ``serve`` launches it."""
    first = examples()[0]
    with Page(
        title="vtc: visual tokens", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS), fill_width=True
    ) as page:
        model, method, keep, chosen, counted = build_sidebar(shelf, page.load)
        media, look = gr.State(first.media, time_to_live=KEEP_SECONDS), gr.State(None, time_to_live=KEEP_SECONDS)
        with gr.Tabs():
            with gr.Tab("Ask", id="ask"), gr.Row():
                with gr.Column(scale=2, min_width=300):
                    question = gr.Textbox(
                        first.question, label="Question", max_length=MAX_QUESTION, elem_id="question", render=False
                    )
                    preview, buttons, upload = build_picture(media, question)
                with gr.Column(scale=3, min_width=300):
                    question.render()
                    answers = build_answers()
            with gr.Tab("Tokens", id="tokens"):
                tokens = build_tokens()
            with gr.Tab("Methods", id="methods"):
                methods = build_methods()
            with gr.Tab("Numbers", id="numbers"):
                numbers = build_numbers(shelf.names)
            with gr.Tab("Code", id="code") as code_tab:
                code = build_code()
        context = Context(shelf, model, method, keep, chosen, media, question, look)
        connect_picture(preview, buttons, upload, model, media, question)
        connect_answers(context, answers, buttons)
        connect_tokens(context, tokens, counted, page.load)
        connect_methods(context, methods)
        connect_numbers(context, numbers)
        connect_code(context, code, code_tab)
        page.load(None, None, None, js=_CLOSE_ON_PHONES, api_visibility="private")
    return page
