"""Ask a vision-language model a question: prompts by its own chat template, greedy answers, honest clocks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from vtc.media.depth import as_rgb

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Answer:
    """One greedy answer.

    Parameters
    ----------
    text : str
    tokens : int
        Tokens generated.
    first_token_ms : float
        Time until the first new token (vision tower, selection and prefill).
    total_ms : float
        Time of the whole ``generate`` call.
    """

    text: str
    tokens: int
    first_token_ms: float
    total_ms: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


class _Clock:
    """A streamer for ``generate``: notes when tokens arrive (through the CPU, hence synchronised)."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing; ``generate`` calls it."""


def check_question(question: str) -> str:
    """Return the question without outer blanks.

    Raises
    ------
    ValueError
        Nothing is left.
    """
    if not question.strip():
        raise ValueError('The question is empty; pass some text, such as "What color is the circle?".')
    return question.strip()


def prompt_text(processor: Any, question: str, images: int = 1) -> str:
    """Prompt for ``images`` images and a question, by the processor's chat template.

    A processor without a template gets its image tokens, a line break and the question.
    """
    question = check_question(question)
    template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    if template is None:
        token = getattr(processor, "image_token", "<image>")
        return str(token) * images + "\n" + question
    content = [{"type": "image"} for _ in range(images)] + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def build_inputs(
    processor: Any, rows: Sequence[tuple[Sequence[Image], str]], device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Build the inputs of a batch of questions, padded on the left.

    Parameters
    ----------
    processor : transformers processor
    rows : sequence of (images, question)
    device : torch.device or str

    Returns
    -------
    dict
        What ``model.generate(**inputs)`` takes.
    """
    texts = [prompt_text(processor, question, len(images)) for images, question in rows]
    # the flat list is what every family takes; which image belongs to which row follows from the placeholders
    images = [as_rgb(image) for row_images, _ in rows for image in row_images]
    inputs = processor(text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt")
    return dict(inputs.to(device))


def new_tokens(model: Any, inputs: dict[str, torch.Tensor], limit: int, streamer: Any = None) -> torch.Tensor:
    """Greedy continuation of the batch: LongTensor [B, T], prompt removed, T <= ``limit``."""
    with torch.no_grad():
        out = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=limit, streamer=streamer)
    return out[:, inputs["input_ids"].shape[1] :]


def decode(processor: Any, ids: torch.Tensor) -> list[str]:
    """Texts of a batch of generated ids [B, T], special tokens and outer blanks removed."""
    return [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]


def ask(
    model: Any,
    processor: Any,
    images: Sequence[Image],
    question: str,
    max_new_tokens: int = 32,
    warm_up: bool = True,
) -> Answer:
    """Ask one question about some images and time the answer.

    Parameters
    ----------
    model, processor
        A vision-language model, patched or not, and its processor.
    images : sequence of PIL.Image.Image
    question : str
    max_new_tokens : int
    warm_up : bool
        Generate one token first, so that allocation and kernel selection are not timed.

    Raises
    ------
    ValueError
        Empty question.
    """
    inputs = build_inputs(processor, [(images, question)], model.device)
    return timed_answer(model, processor, inputs, max_new_tokens, warm_up)


def timed_answer(
    model: Any, processor: Any, inputs: dict[str, torch.Tensor], max_new_tokens: int = 32, warm_up: bool = True
) -> Answer:
    """Answer one prompt, given as the inputs of ``generate`` with one row; see :func:`ask`."""
    if warm_up:
        new_tokens(model, inputs, 1)
    clock = _Clock()
    start = time.perf_counter()
    ids = new_tokens(model, inputs, max_new_tokens, clock)
    total = time.perf_counter() - start
    # the first call of a streamer brings the prompt, the second one the first new token
    first = clock.times[1] - start if len(clock.times) > 1 else total
    return Answer(decode(processor, ids)[0], ids.shape[1], 1000 * first, 1000 * total)
