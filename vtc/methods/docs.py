"""Docstrings of methods: what several of them share is written once, and stands in the help of each."""

from __future__ import annotations

import inspect
import re

SHARED = {
    "keep": "Share of each image's tokens in (0, 1], or tokens per image (>= 1).",
    "scope": "One selection per image (or video), or one for all visual tokens of a prompt, the budgets added up.",
    "newlines": "Row separators of anyres images; kept ones come on top of the budget.",
    "positions": "1-D position ids of what stays: contiguous, or the original ones. M-RoPE always keeps them.",
}
"""Fields that mean the same in every method; a method that differs describes its own."""
_SECTION = re.compile(r"Parameters\n-+\n(.*?)(?=\n\n[A-Z][\w ]+\n-+\n|\Z)", re.S)


def parameters(doc: str) -> dict[str, str]:
    """Text on every parameter in a numpydoc docstring, on one line each, in the order they are described."""
    section = _SECTION.search(inspect.cleandoc(doc))
    found: dict[str, str] = {}
    names: list[str] = []
    for line in (section.group(1) if section else "").splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(" : ")[0].split(",")]
            found.update(dict.fromkeys(names, ""))
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found


def complete(cls: type) -> str:
    """Docstring of a method with the fields that it does not describe itself: ``keep`` first, the others last."""
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    known = parameters(doc)
    texts, fields = dict(SHARED), {}
    for base in reversed(cls.__mro__):
        fields.update(vars(base).get("__annotations__", {}))
        texts.update(parameters(vars(base).get("__doc__") or ""))
    missing = [name for name in texts if name in fields and name not in known]
    entries = {name: f"{name} : {_kind(fields[name])}\n    {texts[name]}" for name in missing}
    first = [entries.pop("keep")] if "keep" in entries else []
    section = _SECTION.search(doc)
    if section is None:
        head, found, tail = doc.partition("\n\nNotes\n-----\n")
        return f"{head}\n\nParameters\n----------\n" + "\n".join([*first, *entries.values()]) + found + tail
    own = "\n".join([*first, section.group(1), *entries.values()])
    return doc[: section.start(1)] + own + doc[section.end(1) :]


def _kind(annotation: object) -> str:
    """Annotation as numpydoc writes it."""
    text = str(annotation).replace("'", '"')  # a formatter's quotes, or those of the source
    text = {"Keep": "float or int", "Newlines": '{"drop", "keep"}'}.get(text, text)
    return re.sub(r"Literal\[(.*?)\]", r"{\1}", text).replace(" | None", " or None")
