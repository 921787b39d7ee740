"""The question in a prompt: given by the user, or read back out of the token ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

import torch
from torch import Tensor

BOILERPLATE = (
    r"<\d+(\.\d+)? seconds>",
    r"(?im)^.*\b(answer|respond|reply)\b[^\n]*\bletter\b[^\n]*$",
    r"(?im)^the video (is|lasts for) [\d.]+ seconds[^\n]*\d+ (uniformly sampled )?frames[^\n]*$",
)
"""What a question is not: time stamps, "answer with the option's letter" lines, sentences on frames and their times."""

_MARKS = ("\u2042", "\u2043", "\u2044")


def find_queries(
    handle: Any,
    inputs: Mapping[str, Any],
    query: str | Sequence[str] | None = None,
    boilerplate: Sequence[str] = BOILERPLATE,
) -> list[str]:
    """Question of every row of a call.

    Parameters
    ----------
    handle : vtc.Handle
        Gives the placeholder ids, and through its methods ``query`` and ``processor``.
    inputs : mapping
        Arguments of the model; ``input_ids`` are read unless the question is known.
    query : str or sequence of str or None
        One question for all rows, or one per row. None: that of a method of the handle, else the one in the ids.
    boilerplate : sequence of str
        Regular expressions of what is cut from decoded questions.

    Returns
    -------
    list of str
        An empty string where a row has no visual placeholder and hence needs none.

    Raises
    ------
    ValueError
        The question is empty, or can be found in no way; the message says what to pass.
    """
    rows = _rows(inputs)
    if query is None:
        query = next((q for m in handle.methods if (q := getattr(m, "query", None)) is not None), None)
    if query is not None:
        given = [query] * rows if isinstance(query, str) else list(query)
        if len(given) != rows:
            raise ValueError(f"{len(given)} queries for a batch of {rows} rows; pass one string, or one per row.")
        return [_some(text, f"query of row {row}") for row, text in enumerate(given)]
    processor = next((m.processor for m in handle.methods if m.processor is not None), None)
    ids = inputs.get("input_ids")
    if processor is None or not isinstance(ids, Tensor):
        missing = "a processor (vtc.patch(..., processor=processor))" if processor is None else "input_ids"
        raise ValueError(
            f"The question of the prompt is needed to rate frames, and it is not known: there is no query, and without "
            f"{missing} it cannot be read out of the prompt. Pass query='...'."
        )
    visual = set(handle.adapter.token_ids(handle.model).values())
    return queries_of_ids(processor, ids, inputs.get("attention_mask"), visual, boilerplate)


def queries_of_ids(
    processor: Any,
    ids: Tensor,
    mask: Tensor | None,
    visual: set[int],
    boilerplate: Sequence[str] = BOILERPLATE,
) -> list[str]:
    """Read the last user turn of every row, without visual placeholders, template and boiler-plate.

    Parameters
    ----------
    processor
        The model's processor (or tokenizer); its chat template tells where a user turn begins and ends. Without a
        template, or where its headers are not in the ids, the question is what follows the last placeholder.
    ids, mask : LongTensor [B, L]
    visual : set of int
        Placeholder ids.
    boilerplate : sequence of str

    Returns
    -------
    list of str, see :func:`find_queries`

    Raises
    ------
    ValueError
        A row with placeholders has no word of question.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    headers, trailers = turn_borders(processor)
    found = []
    for row in range(ids.shape[0]):
        real = ids[row] if mask is None else ids[row][mask[row].bool()]
        tokens = real.tolist()
        if not visual & set(tokens):
            found.append("")
            continue
        turn = [token for token in _last_turn(tokens, headers, trailers, visual) if token not in visual]
        text = tokenizer.decode(turn, skip_special_tokens=True)
        for pattern in boilerplate:
            text = re.sub(pattern, "", text)
        found.append(_some(re.sub(r"\n\s*\n+", "\n", text), f"question in the prompt of row {row}"))
    return found


def turn_borders(processor: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Ids that stand before a user's words and behind them, in the forms a tokenizer may give them; both may be empty.

    The chat template is rendered around marks: what stands before every user's mark, in the first turn and in a later
    one, is the header; what stands behind the last one is the trailer.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    first, later, trailer = _rendered(processor)
    header = commonprefix([first[::-1], later[::-1]])[::-1]
    forms = lambda text: list(dict.fromkeys(t for t in (text, text.rstrip(), text.strip()) if t))  # noqa: E731

    def ids(texts: list[str]) -> list[list[int]]:
        return [found for t in texts if (found := list(tokenizer(t, add_special_tokens=False).input_ids))]

    return ids(forms(header)), ids(forms(trailer))


def _rendered(processor: Any) -> tuple[str, str, str]:
    """Text before the first user's words, between an answer and the next user's words, and behind those."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        return "", "", ""
    roles = ("user", "assistant", "user")
    turns = [{"role": r, "content": [{"type": "text", "text": m}]} for r, m in zip(roles, _MARKS, strict=True)]
    text = str(processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    if any(text.count(mark) != 1 for mark in _MARKS):
        return "", "", ""  # a template that drops turns has no borders to show
    first, rest = text.split(_MARKS[0])
    later, trailer = rest.split(_MARKS[1])[1].split(_MARKS[2])
    return first, later, trailer


def _last_turn(tokens: list[int], headers: list[list[int]], trailers: list[list[int]], visual: set[int]) -> list[int]:
    for header in headers:
        start = _find(tokens, header, last=True)
        if start >= 0:
            tokens = tokens[start + len(header) :]
            break
    else:
        tokens = tokens[max(i for i, token in enumerate(tokens) if token in visual) + 1 :]
    for trailer in trailers:
        end = _find(tokens, trailer, last=False)
        if end >= 0:
            return tokens[:end]
    return tokens


def _find(tokens: list[int], part: list[int], last: bool) -> int:
    places = range(len(tokens) - len(part) + 1)
    return next((i for i in (reversed(places) if last else places) if tokens[i : i + len(part)] == part), -1)


def _rows(inputs: Mapping[str, Any]) -> int:
    for name in ("input_ids", "inputs_embeds", "attention_mask"):
        if isinstance(inputs.get(name), torch.Tensor):
            return int(inputs[name].shape[0])
    return 1


def _some(text: str, where: str) -> str:
    if not text.strip():
        raise ValueError(f"The {where} is empty: frames cannot be rated for it. Ask something, or pass query='...'.")
    return text.strip()
