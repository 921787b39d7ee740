"""docs/families.md says what the adapters read; ``vtc families`` and ``vtc inspect`` print the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vtc
from vtc import families
from vtc.cli.app import app

from support import tiny_families

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def call(*words, code=0):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.skipif(bool(tiny_families.OLD), reason="some families need a newer transformers")
def test_the_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == families.render(), "run `make pages`"


def test_the_page_has_every_family():
    text = PAGE.read_text(encoding="utf-8")
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == [*vtc.list_families(), "Geometries"]
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) == len(heads) and all((PAGE.parent / link).is_file() for link in links)


@pytest.mark.parametrize("name", tiny_families.ALL)
def test_what_is_told_is_there(tiny_model, name):
    """Modules and fields that are named exist, and are those the engine takes."""
    model = tiny_model(name)
    adapter = vtc.find_adapter(model)
    told = families.describe(adapter, model)
    assert model.get_submodule(told["decoder"]) is adapter.decoder(model)
    towers = [model.get_submodule(path) for path in told["tower"].split(", ")]
    assert towers == list(dict.fromkeys(adapter.tower(model, m) for m in adapter.modalities))
    fields = dict(part.split() for part in told["placeholders"].split(", "))
    assert {m: getattr(model.config, field) for m, field in fields.items()} == adapter.token_ids(model)
    assert {m: told[m] for m in adapter.modalities} == {m: repr(adapter.geometry(m)) for m in adapter.modalities}
    chosen = told["feature layer"]
    assert chosen == "the last block" or hasattr(model.config, chosen)


def test_one_family_as_text_and_as_data():
    told = json.loads(call("families", "video_llava", "--json"))
    assert told["tower"] == "model.image_tower, model.video_tower" and told["video"] == "ClassFrames()"
    assert told == families.describe(vtc.adapters.as_adapter("video_llava"), families.specimen("video_llava"))
    text = call("families", "video_llava")
    assert all(value in text for value in told.values())
    inspected = json.loads(call("inspect", "tiny-llava", "--json"))
    assert inspected["reads"] == json.loads(call("families", "llava", "--json"))


@pytest.mark.parametrize(
    ("family", "text"),
    [("lava", "Unknown family 'lava'. Did you mean 'llava'?"), ("generic", "no tiny model of family 'generic'")],
)
def test_families_that_are_not_there(family, text):
    assert text in " ".join(call("families", family, code=1).split())


@pytest.mark.skipif("pi0" in tiny_families.OLD, reason="needs a newer transformers")
def test_a_policy_tells_how_it_acts():
    told = families.describe(vtc.adapters.as_adapter("pi0"), families.specimen("pi0"))
    assert told["policy"].startswith("actions expert: calls sample_actions, expert model.dit with chunk_size rows")
