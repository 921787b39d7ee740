"""From a question to the visible things it asks about, and to the question a scorer is asked per frame (QuoTA)."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from typing import Any

MOST = 16
"""Most entities that are kept."""

PROMPT = """\
{query}
Do not answer yet. Decide which visible things must be found in the frames to answer the question above, and reply in \
exactly three lines.
Step 1: yes or no - does the answer depend on seeing particular people, animals, objects or places?
Step 2: if yes, a Python list of short noun phrases for them.
Step 3: the same list without anything that is not a concrete visible thing (ideas, screen positions, bare colours, \
the video itself); null if nothing is left.
Example. Question: What is the dog in the red collar holding when the boat leaves? A. A stick B. A ball
Step 1: yes
Step 2: ["dog in the red collar", "boat", "when the boat leaves", "stick", "ball"]
Step 3: ["dog in the red collar", "boat", "stick", "ball"]
Example. Question: What is the overall mood of the film? A. Sad B. Hopeful
Step 1: no"""

_CHOICES = "A. yes B. no\nReply with the letter only."
_FIRST = re.compile(r"step 1: yes")
_LIST = re.compile(r"step 3: (\[[^\]]*\])")


def decoupling_prompt(query: str) -> str:
    """Prompt that asks a language model for the visible things a question depends on."""
    return PROMPT.replace("{query}", query)


def parse_entities(reply: str) -> list[str]:
    """Entities in the reply to :func:`decoupling_prompt`, lower case, at most 16, each once.

    The reply must say ``step 1: yes``, and ``step 3:`` must be followed by a list in brackets. Anything else, "no",
    "null" and broken lists included, means that there are none; no text makes this function raise, and nothing of it
    is executed.
    """
    text = reply.lower()
    first, listed = text.find("step 1: "), text.find("step 3: ")
    if first < 0 or listed < 0 or _FIRST.match(text, first) is None:
        return []
    found = _LIST.match(text, listed)
    if found is None:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes that mean nothing
            values = ast.literal_eval(found.group(1))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    names = [value.strip() for value in values if isinstance(value, str)]
    return list(dict.fromkeys(name for name in names if name))[:MOST]


def frame_question(query: str, entities: Sequence[str]) -> str:
    """Question a scorer is asked about every frame: whether it shows the entities, or whether it answers the query."""
    if entities:
        return f"Is at least one of these visible in the image: {', '.join(entities)}? {_CHOICES}"
    return f"{query}\nCan the question be answered from this image? {_CHOICES}"


def decouple(model: Any, processor: Any, query: str, max_new_tokens: int = 256) -> list[str]:
    """Let a vision-language model name the visible things a question depends on; text only, greedy.

    Parameters
    ----------
    model, processor
        A patched model runs as it is: the prompt has no image.
    query : str
        The question with its options.
    max_new_tokens : int
        The three lines of the reply are far shorter; the paper's code allows 4096.

    Returns
    -------
    list of str
        See :func:`parse_entities`.

    Raises
    ------
    ValueError
        Empty query.
    """
    from ..chat import build_inputs, decode, new_tokens

    if not query.strip():
        raise ValueError("The query is empty: there is nothing to look for in the video.")
    inputs = build_inputs(processor, [([], decoupling_prompt(query))], model.device)
    return parse_entities(decode(processor, new_tokens(model, inputs, max_new_tokens))[0])
