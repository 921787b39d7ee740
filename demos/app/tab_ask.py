"""Tab "Ask": one picture, one question, two answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from .context import LANE, Context
from .errors import readable
from .examples import examples
from .files import stored, uploaded
from .limits import MAX_SECONDS
from .media import Media, read_upload
from .numbers import numbers_table
from .runs import answer_both


def build_picture(media: gr.State, question: gr.Textbox) -> tuple[gr.Image, list[gr.Button], gr.File]:
    """Preview, upload and buttons of the examples, for the left column."""
    preview = gr.Image(
        _preview(examples()[0].media),
        label="Picture",
        show_label=False,
        interactive=False,
        height=320,
        elem_id="preview",
        buttons=["fullscreen"],
    )
    upload = gr.File(
        label=f"Your picture or video (up to {MAX_SECONDS} s)",
        file_types=["image", "video"],
        height=150,
        elem_id="upload",
    )
    gr.Markdown("**Examples**")
    with gr.Row(elem_classes="vtc-examples"):
        buttons = [
            gr.Button(e.label, size="sm", min_width=150, elem_id=f"example-{i}") for i, e in enumerate(examples())
        ]
    return preview, buttons, upload


def connect_picture(
    preview: gr.Image, buttons: list[gr.Button], upload: gr.File, model: gr.Dropdown, media: gr.State, question: Any
) -> None:
    """Let uploads and examples set the picture; a video example chooses a model that takes video."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    taken = upload.upload(_take_upload, upload, [media, preview, upload], **quiet)
    taken.failure(lambda: None, None, upload, **quiet)  # a refused file does not stay in the box
    for i, button in enumerate(buttons):

        def pick(current: str, i: int = i) -> tuple[Media, Any, str, str]:
            example = examples()[i]
            fitting = "tiny-qwen2_5-vl" if example.media.kind == "video" and current == "tiny-llava" else current
            return example.media, _preview(example.media), example.question, fitting

        button.click(pick, model, [media, preview, question, model], **quiet)


@readable
def _take_upload(path: object) -> tuple[Any, Any, None]:
    """Read the file; it is not kept."""
    if path is None:
        return gr.skip(), gr.skip(), None
    file = uploaded(path)
    try:
        media = read_upload(file)
    finally:
        file.unlink(missing_ok=True)
    return media, _preview(media), None


def _preview(media: Media) -> str:
    from vtc.viz.sheet import shown

    return stored(shown(media.frames))


def build_answers() -> dict[str, Any]:
    """Question button and the two columns."""
    parts: dict[str, Any] = {"ask": gr.Button("Ask", variant="primary", elem_id="ask")}
    with gr.Row():
        for side, title in (("left", "Without vtc"), ("right", "With vtc")):
            with gr.Column(min_width=190):
                gr.Markdown(f"### {title}")
                parts[side] = gr.Textbox(label="Answer", lines=2, interactive=False, elem_id=f"{side}-answer")
                parts[f"{side}_numbers"] = gr.HTML(numbers_table(None, None, None), elem_id=f"{side}-numbers")
    parts["verdict"] = gr.Markdown("", elem_id="verdict")
    parts["kept"] = gr.Image(
        label="What the second answer saw",
        show_label=False,
        interactive=False,
        visible=False,
        elem_id="kept",
        buttons=["download", "fullscreen"],
    )
    with gr.Accordion("Report", open=False):
        parts["report"] = gr.HTML("Ask first.", elem_id="report")
    return parts


def connect_answers(context: Context, parts: dict[str, Any], buttons: list[gr.Button]) -> None:
    """Ask on a click or on Enter."""
    names = ("left", "left_numbers", "right", "right_numbers", "verdict", "kept", "report")
    outputs = [*(parts[name] for name in names), context.look]
    for trigger in (parts["ask"].click, context.question.submit):
        trigger(
            readable(_asker(context)),
            context.inputs,
            outputs,
            concurrency_limit=1,
            concurrency_id=LANE,
            show_progress="minimal",
            show_progress_on=[parts["left"], parts["right"]],
            api_visibility="private",
        )


def _asker(context: Context) -> Callable[..., Iterator[tuple]]:
    def ask(*values: Any) -> Iterator[tuple]:
        chosen, media, question = context.read(*values)
        repeats = context.shelf.repeats(chosen.model)
        with context.shelf.use(chosen.model) as loaded:
            for plain, cut, look in answer_both(loaded, chosen, media, question, repeats):
                before = after = full = held = None
                if look is not None:
                    before, after = look.record.before, look.record.after
                    full, held = look.report.data["kv_bytes"]["before"], look.report.data["kv_bytes"]["after"]
                yield (
                    "" if plain is None else plain.text,
                    numbers_table(plain, before, full),
                    "" if cut is None else cut.text,
                    numbers_table(cut, after, held, plain),
                    "" if look is None else _verdict(plain, cut, chosen.label, 1 + repeats),
                    gr.skip() if look is None else gr.Image(stored(look.picture()), visible=True),
                    gr.skip() if look is None else look.report._repr_html_(),
                    gr.skip() if look is None else look,
                )

    return ask


def _verdict(plain: Any, cut: Any, label: str, runs: int) -> str:
    same = "**The answer is the same**" if plain.text == cut.text else "**The answer is another one**"
    clock = f"median of {runs} runs" if runs > 1 else "one run"
    return f"{same} with {label}. Time to the first token: {clock}. What the second answer saw:"
