"""What each method is: where it acts and what it reads, told from its stages; a page for each from its docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .core.stage import Decoder, Encoder, ModelFacts, Need, Stage
from .methods import list_methods, make_method, method_class

BEFORE, INSIDE, TOWER, BOTH = "before the language model", "inside the language model", "inside the encoder", "both"
PLACES = (TOWER, BEFORE, BOTH, INSIDE)
"""Where methods act, in the order of lists and pages."""
_READS = {
    ("vision", "attention"): "attention of the encoder",
    ("vision", "pixels"): "pixels",
    ("decoder", "attention"): "attention of the language model",
    ("decoder", "ahead"): "attention of the language model",
    ("decoder", "modules"): "what layers do to tokens",
    ("decoder", "inputs"): "rows that enter the language model",
}
_TYPICAL = ModelFacts(
    family="llava", vision_layers=24, feature_layer=22, global_layers=tuple(range(24)), decoder_layers=32,
    has_class_token=True,
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One method.

    Attributes
    ----------
    name, summary, paper : str
    place : str
        One of :data:`PLACES`.
    reads : tuple of str
        What it needs beside the projected tokens.
    options : tuple of str
    """

    name: str
    summary: str
    paper: str
    place: str
    reads: tuple[str, ...]
    options: tuple[str, ...]


def card(name: str) -> Card:
    """Tell a method from the stages it makes for a LLaVA of usual size."""
    cls, method = method_class(name), make_method(name)
    stages = method.stages(_TYPICAL)
    reads = dict.fromkeys(_words(need) for stage in stages for need in stage.needs)
    extra = {
        "text of the prompt": any(stage.needs_text for stage in stages) or any(map(_asks_text, stages)),
        "scores of frames": hasattr(method, "frame_scores"),
        "earlier calls of an episode": method.feedback(_TYPICAL) is not None,
        "videos only": bool(stages) and all(stage.modalities == ("video",) for stage in stages),
    }
    words = (*reads, *(word for word, given in extra.items() if given))
    return Card(name, cls.summary, cls.paper, _place(stages), words, cls.options())


def cards() -> list[Card]:
    """All methods, by the place where they act."""
    return sorted(map(card, list_methods()), key=lambda c: (PLACES.index(c.place), c.name))


def _words(need: Need) -> str:
    return _READS.get((need.tower, need.statistic.source), f"{need.stat} of the {need.tower}")


def _asks_text(stage: Stage) -> bool:
    return any(need.tower == "decoder" and need.stat in ("query_rows", "next_rows", "masses") for need in stage.needs)


def _place(stages: list[Stage]) -> str:
    kinds = {TOWER if isinstance(s.at, Encoder) else INSIDE if isinstance(s.at, Decoder) else BEFORE for s in stages}
    return kinds.pop() if len(kinds) == 1 else BOTH


# -- pages -------------------------------------------------------------------------------------------------------------

NOTE = "<!-- Made by `make pages` from the docstring of the class; a test compares. Do not edit. -->"
PICTURES = "../images/methods"


def page(name: str) -> str:
    """Markdown page of a method: equations, defaults, differences, a picture of what it keeps, sources."""
    cls, told = method_class(name), card(name)
    paper = f" [arXiv {told.paper}](https://arxiv.org/abs/{told.paper})." if told.paper else ""
    reads = f" It reads: {', '.join(told.reads)}." if told.reads else " It reads nothing but the tokens."
    head = f"# {name}\n\n{NOTE}\n\n{_sentence(told.summary)}{paper} It acts {_where(told.place)}.{reads}\n"
    picture = f"\n![What {name} keeps of a scene at keep=0.25]({PICTURES}/{name}.png)\n"
    return f"{head}{picture}\n{markdown(inspect.cleandoc(cls.__doc__ or ''), defaults(name))}\n"


def index() -> str:
    """Page that leads to the others, by place."""
    lines = ["# Methods", "", NOTE, ""]
    for place in PLACES:
        mine = [c for c in cards() if c.place == place]
        lines += [f"## {_where(place).capitalize()}", ""] if mine else []
        lines += [f"- [{c.name}]({c.name}.md): {c.summary}" for c in mine]
        lines += [""] if mine else []
    return "\n".join(lines).rstrip() + "\n"


def _where(place: str) -> str:
    return "before and inside the language model" if place == BOTH else place


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def defaults(name: str) -> dict[str, Any]:
    """Hyperparameters and their values in a method as it is made without any."""
    method = make_method(name)
    return {option: getattr(method, option) for option in method.options()}


def markdown(doc: str, values: dict[str, Any]) -> str:
    """Docstring in numpydoc as Markdown: sections as headings, parameters as a list with defaults, ``::`` as code."""
    parts = re.split(r"\n\n([A-Z]\w+)\n-+\n", "\n\n" + doc)
    blocks = [_blocks(parts[0].strip("\n"))]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        told = _parameters(body, values) if title == "Parameters" else _blocks(body.strip("\n"))
        blocks.append(f"## {title}\n\n{told}")
    return "\n\n".join(blocks)


def _blocks(text: str) -> str:
    """Paragraphs; what is indented behind ``::`` becomes a block of code."""
    out: list[str] = []
    for part in text.split("\n\n"):
        if part.startswith("    "):
            out.append("```text\n" + textwrap.dedent(part) + "\n```")
        else:
            out.append(_plain(part.rstrip()[:-1] if part.rstrip().endswith("::") else part))
    return "\n\n".join(out)


def _plain(text: str) -> str:
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def _parameters(body: str, values: dict[str, Any]) -> str:
    lines: list[str] = []
    for line in body.strip("\n").splitlines():
        if line and not line.startswith(" "):
            names, _, kind = line.partition(" : ")
            known = ", ".join(f"`{values[n.strip()]!r}`" for n in names.split(",") if n.strip() in values)
            lines.append(f"- **{names}**: {_plain(kind)}; default {known}.")
        elif line.strip():
            lines.append("  " + _plain(line.strip()))
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write the pages of all methods, and remove those of methods that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{name}.md": page(name) for name in list_methods()} | {"README.md": index()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path("docs/methods"))
