"""Pages of the methods, and what ``vtc methods`` says of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vtc
from vtc import cards
from vtc.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", vtc.list_methods())
def test_the_page_of_a_method_is_fresh_and_whole(name):
    text = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert text == cards.page(name), "run `make pages`"
    assert "## Parameters" in text and "**keep**" in text and ":mod:" not in text and ":class:" not in text
    (picture,) = re.findall(r"\]\(([^)]*\.png)\)", text)
    assert (DOCS / "methods" / picture).resolve().is_file(), "run `make pictures`"


def test_the_list_leads_to_all_pages_and_there_are_no_others():
    text = (DOCS / "methods" / "README.md").read_text(encoding="utf-8")
    assert text == cards.index(), "run `make pages`"
    assert sorted(re.findall(r"\]\((.*?)\.md\)", text)) == vtc.list_methods()
    assert {path.stem for path in (DOCS / "methods").glob("*.md")} == {*vtc.list_methods(), "README"}


@pytest.mark.parametrize(
    ("name", "place", "reads"),
    [
        ("divprune", cards.BEFORE, ()),
        ("vtc-cls", cards.BEFORE, ("attention of the encoder",)),
        ("fastv", cards.INSIDE, ("attention of the language model", "text of the prompt")),
        ("todre", cards.BOTH, ("attention of the encoder", "attention of the language model", "text of the prompt")),
        ("quota", cards.BEFORE, ("scores of frames",)),
    ],
)
def test_a_card_tells_place_and_needs(name, place, reads):
    told = cards.card(name)
    assert (told.place, told.reads) == (place, reads)


def test_the_command_groups_by_place():
    result = CliRunner().invoke(app, ["methods"])
    assert result.exit_code == 0
    heads = [result.output.index(word) for word in ("Before the language", "Before and inside", "Inside the language")]
    assert heads == sorted(heads)
    found = {m["name"]: m for m in json.loads(CliRunner().invoke(app, ["methods", "--json"]).output)}
    assert set(found) == set(vtc.list_methods()) and found["vtc-cls"]["place"] == cards.BEFORE


def test_code_in_docstrings_becomes_code():
    text = cards.markdown(
        "Head.\n\nSo::\n\n    a = b\n      c\n\nParameters\n----------\nx : int\n    What.\n", {"x": 1}
    )
    assert text == "Head.\n\nSo:\n\n```text\na = b\n  c\n```\n\n## Parameters\n\n- **x**: int; default `1`.\n  What."
