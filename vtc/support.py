"""Which method runs on which family: asked from the registries, rendered as Markdown for the README."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vtc.adapters import Adapter, list_adapters  # type: ignore[import-not-found,unused-ignore]

from .core.stage import ModelFacts
from .engine.plan import check_stages
from .methods import list_methods, make_method

BEGIN, END = "<!-- support matrix: begin -->", "<!-- support matrix: end -->"


def typical_facts(adapter: Adapter) -> ModelFacts:
    """Facts of a usual checkpoint of the family: 24 encoder and 32 decoder layers, and what its adapter changes."""
    usual = ModelFacts(
        family=adapter.family,
        vision_layers=24,
        feature_layer=23,
        global_layers=tuple(range(24)),
        decoder_layers=32,
        modalities=tuple(adapter.modalities),
        multimodal_rope=adapter.multimodal_rope,
        keeps_positions=adapter.keeps_positions or adapter.multimodal_rope,
        native_resolution=adapter.multimodal_rope if adapter.native_resolution is None else adapter.native_resolution,
    )
    return replace(usual, **adapter.typical)


def refusal(method: str, facts: ModelFacts) -> str | None:
    """Why a method with its default options cannot run on a model with these facts; None when it can."""
    try:
        stages = make_method(method).stages(facts)
        check_stages(stages, facts)
    except ValueError as error:
        return str(error)
    return None


def render() -> str:
    """Markdown table of families and methods, reasons of refusals as footnotes."""
    methods, notes = list_methods(), []
    rows = ["| family | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for adapter in list_adapters():
        facts, cells = typical_facts(adapter), []
        for method in methods:
            reason = refusal(method, facts)
            if reason is not None and reason not in notes:
                notes.append(reason)
            cells.append("✓" if reason is None else f"[{notes.index(reason) + 1}]")
        rows.append(f"| {adapter.family} ({adapter.notes}) | " + " | ".join(cells) + " |")
    foot = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*rows, "", *foot]).rstrip() + "\n"


def update(text: str) -> str:
    """Replace the table between the markers of ``text``.

    Raises
    ------
    ValueError
        The markers are missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"No {BEGIN!r} ... {END!r} in this text: put both on lines of their own where the table goes.")
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{render()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    readme = Path("README.md")
    readme.write_text(update(readme.read_text()))
