"""The support matrix: generated from the registries, true to the models, fresh in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

import vtc
from vtc import support
from vtc.adapters import list_adapters
from vtc.core.stage import ModelFacts

from support import tiny_families

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", tiny_families.ALL)
def test_typical_facts_are_those_of_real_models(tiny_model, name):
    model = tiny_model(name)
    adapter = vtc.find_adapter(model)
    facts, typical = adapter.facts(model), support.typical_facts(adapter)

    def traits(f: ModelFacts) -> tuple:
        windowed = len(f.global_layers) < f.vision_layers
        return f.vision_layers > 0, windowed, f.multimodal_rope, bool(f.linear_layers)

    assert traits(typical) == traits(facts)
    # LLaVA-1.5 comes with towers of both kinds; the usual one is CLIP
    assert typical.has_class_token == facts.has_class_token or name in ("llava-siglip", "llava-pixtral")


def test_the_table_names_every_family_and_method():
    table = support.render()
    header, _, *rows = table.split("\n\n")[0].splitlines()
    assert [c.strip() for c in header.strip("|").split("|")][1:] == vtc.list_methods()
    assert [r.split()[1] for r in rows] == [a.family for a in list_adapters()]
    assert all(len(r.split("|")) == len(header.split("|")) for r in rows)


def test_a_refusal_becomes_a_footnote(monkeypatch):
    monkeypatch.setattr(support, "list_methods", lambda: ["pool", "vtc-cls"])
    blind = type("Blind", (list_adapters()[0].__class__,), {"family": "blind", "typical": {"vision_layers": 0}})()
    monkeypatch.setattr(support, "list_adapters", lambda: [blind])
    table = support.render()
    assert table.splitlines()[2].endswith("| ✓ | [1] |")
    assert table.splitlines()[-1].startswith("1. vtc-cls reads attention of the vision encoder")


def test_update_replaces_the_block_only():
    text = f"before\n{support.BEGIN}\nstale row\n{support.END}\nafter\n"
    new = support.update(text)
    assert new.startswith("before\n") and new.endswith("\nafter\n") and "stale row" not in new
    assert support.update(new) == new
    with pytest.raises(ValueError, match="markers|support matrix"):
        support.update("no block here")


def test_the_readme_is_fresh():
    text = README.read_text() if README.exists() else ""
    block = support.update(text) if support.BEGIN in text else text
    assert block == text, "run `python -m vtc.support` to refresh the table in the README"
