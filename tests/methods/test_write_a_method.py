"""The methods of docs/write-a-method.md: the page's own code, on tiny models, against brute force."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from pathlib import Path

import pytest
import torch

import vtc
from vtc import methods
from vtc.methods.docs import parameters

from support import oracle, tiny, tiny_families

PAGE = Path(__file__).parents[2] / "docs" / "write-a-method.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
FAMILIES = ("llava-clip", "qwen2_5_vl", "llava_onevision")


def patched_by_the_page(code, model):
    names = {"vtc": vtc, "model": model}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    return names["handle"]


@pytest.fixture(params=FAMILIES)
def setup(request):
    case = tiny_families.ALL[request.param]
    return case.build(), tiny.batch(case)


def body(code):
    """Lines of the class itself, and the imports it cannot do without."""
    tree = ast.parse(code)
    return sum(node.end_lineno - node.lineno + 1 for node in tree.body if not isinstance(node, ast.Assign))


def test_the_largest_norm_takes_at_most_twenty_lines():
    assert body(BLOCKS[0]) <= 20


def test_the_largest_norms_are_kept(setup):
    model, inputs = setup
    handle = patched_by_the_page(BLOCKS[0], model)
    rows = []
    keep = handle.methods[0].score

    def spy(view, *stats):
        rows.append((view.features.float().norm(dim=1), view.patches))
        return keep(view, *stats)

    handle.methods[0].score = spy
    with torch.no_grad():
        model(**inputs)
    assert len(rows) == len(handle.last.images) > 1
    for (norms, patches), image in zip(rows, handle.last.images, strict=True):
        order = norms[patches].sort(descending=True, stable=True).indices
        best = patches[order[: max(1, round(0.25 * len(patches)))]].sort().values
        assert image.kept.tolist() == best.tolist()
    vtc.unpatch(model)


@pytest.mark.parametrize("code", BLOCKS, ids=["before", "inside"])
def test_pruned_equals_masked(setup, code):
    model, inputs = setup
    handle = patched_by_the_page(code, model)
    handle.methods[0].positions = "keep"
    out = oracle.generate(model, inputs)
    assert handle.last.after < handle.last.before
    record = handle.last
    vtc.unpatch(model)
    expected = oracle.oracle_logits(model, inputs, record, oracle.new_tokens(out, inputs))
    assert (torch.stack(out.logits, 1) - expected).abs().max() < 3e-5


@pytest.mark.parametrize("name", vtc.list_methods())
def test_every_method_is_exported_by_name_and_with_its_type(name):
    cls = methods.method_class(name)
    assert cls.__name__ in methods.__all__ and getattr(methods, cls.__name__) is cls
    source = ast.parse(inspect.getsource(methods))
    typed = {alias.name for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert cls.__name__ in typed


def test_an_unknown_class_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match="FastV"):
        methods.FastW  # noqa: B018
    assert set(dir(methods)) == set(methods.__all__)


@pytest.mark.parametrize("name", vtc.list_methods())
def test_help_describes_every_hyperparameter(name):
    cls = methods.method_class(name)
    described = parameters(cls.__doc__)
    assert set(cls.options()) == set(described) and all(described.values())
    assert list(described)[0] == "keep"


def test_help_shows_the_words_that_are_allowed():
    assert 'scope : {"row", "image"}' in methods.FastV.__doc__
    assert typing.get_type_hints(methods.FastV)["scope"] == typing.Literal["row", "image"]
