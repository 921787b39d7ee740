"""Random calls against brute force: the unpatched model with the dropped columns hidden, or one error with a remedy."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

import vtc
from vtc.engine.seams import name_of
from vtc.proof.masking import held_cache

from support import brute, layouts
from support.layouts import Layout

TOLERANCE = 1e-4  # of float32 logits of size 10


def cache_of(model: Any, layout: Layout) -> Any:
    config = model.get_decoder().config
    if layout.cache == "static":
        return StaticCache(config=config, max_cache_len=layout.total + 3)
    return DynamicCache(config=config) if layout.cache == "dynamic" else None


@torch.no_grad()
def run(model: Any, layout: Layout) -> tuple[list[Tensor], Any]:
    """Logits of the prompt and of every turn, and the output of the prompt."""
    name = name_of("cache", type(model).forward)
    options = {"use_cache": layout.cache != "off", name: cache_of(model, layout)}
    maps = layout.outputs and layout.attention == "eager"
    more = dict(output_hidden_states=layout.outputs, output_attentions=maps)
    first = model(**layout.inputs, **options, **more, logits_to_keep=layout.request)
    logits, end = [first.logits], layout.length
    real = layout.real.clone()
    for turn in layout.turns:
        start, end = end, end + turn.ids.shape[1]
        given: dict[str, Any] = {}
        if turn.hidden is not None:
            real[:, : layout.length] &= ~turn.hidden
        if layout.seen is not None:
            given["attention_mask"] = layouts.finished(layout, start, end)
        elif "attention_mask" in layout.inputs:
            given["attention_mask"] = real[:, :end].long()
        if layout.places is not None:
            given["position_ids"] = layout.places[..., start:end]
        if "token_type_ids" in layout.inputs:
            given["token_type_ids"] = torch.zeros_like(turn.ids)
        out = model(input_ids=turn.ids, use_cache=True, **{name: held_cache(first.values())}, **given)
        logits.append(out.logits)
    return logits, first


def asked(layout: Layout) -> Tensor:
    columns = torch.arange(layout.length)
    if isinstance(layout.request, Tensor):
        return layout.request
    return columns[-layout.request :] if layout.request else columns


def off(got: Tensor, want: Tensor, where: Tensor) -> float:
    """Largest difference in the rows ``where`` [B, n]."""
    assert got.shape == want.shape
    assert torch.isfinite(got[where]).all()
    return float((got - want)[where].abs().max()) if bool(where.any()) else 0.0


def counted(layout: Layout, alive: Tensor) -> Tensor:
    """Columns to compare [B, N]: alive to the end, real, and their query sees something."""
    where = alive[-1] & layout.real
    return where if layout.seen is None else where & layout.seen.any(2)


def compare(layout: Layout, logits: list[Tensor], first: Any, want: Any, alive: Tensor) -> None:
    where, columns, end = counted(layout, alive), asked(layout), layout.length
    assert off(logits[0], want.logits[:, columns], where[:, columns]) < TOLERANCE, f"prompt: {layout}"
    for number, (turn, got) in enumerate(zip(layout.turns, logits[1:], strict=True)):
        start, end = end, end + turn.ids.shape[1]
        assert off(got, want.logits[:, start:end], where[:, start:end]) < TOLERANCE, f"turn {number}: {layout}"
    for index, got in enumerate(first.hidden_states or ()):
        there = alive[max(0, index - 1)] & where
        assert off(got, want.hidden_states[index][:, : layout.length], there[:, : layout.length]) < TOLERANCE, layout
    for index, got in enumerate(first.attentions or ()):
        n = layout.length
        there = (alive[index] & where)[:, :n]
        expected = want.attentions[index][..., :n, :n]
        got = got[..., :n]
        rows = there[:, None].expand(got.shape[:3])
        assert off(got, expected, rows) < TOLERANCE, f"attention of layer {index}: {layout}"


def check_refusal(error: Exception, layout: Layout) -> None:
    said = str(error)
    assert type(error) in (ValueError, TypeError), f"{error!r}: {layout}"
    assert "\n" not in said and 40 < len(said) < 600, f"{said}: {layout}"


def check(tiny_model: Callable, layout: Layout, counts: Counter) -> None:
    plain, model = tiny_model(layout.case, reference_kernel(layout)), tiny_model(layout.case, layout.attention)
    try:
        logits, first = run(model, layout)
    except Exception:
        counts["refused by the model itself"] += 1
        return
    if not same(layout, logits, first, *brute.reference(plain, layout)):
        counts["beyond the reference"] += 1  # windows that count holes, which the reference does not
        return
    try:
        with vtc.patched(model, layouts.METHODS[layout.method](), **strength(layout)) as handle:
            plan = handle.plan()
            logits, first = run(model, layout)
            record = handle.last
    except Exception as error:
        check_refusal(error, layout)
        counts["refused: " + str(error)[:70]] += 1
        return
    compare(layout, logits, first, *brute.reference(plain, layout, record, plan))
    counts["right"] += 1
    counts["dropped"] += record is not None and record.after < record.before
    counts[f"mask {layout.mask}"] += 1


def same(layout: Layout, logits: list[Tensor], first: Any, want: Any, alive: Tensor) -> bool:
    try:
        compare(layout, logits, first, want, alive)
    except AssertionError:
        return False
    return True


def strength(layout: Layout) -> dict[str, Any]:
    return {"keep": layout.keep} if isinstance(layouts.METHODS[layout.method](), str) else {}


def reference_kernel(layout: Layout) -> str:
    return "eager" if layout.outputs and layout.attention == "eager" else "sdpa"


def test_any_layout_equals_brute_force(tiny_model: Callable, seeds: Iterator[int]) -> None:
    counts: Counter = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for seed in seeds:
            check(tiny_model, layouts.draw(seed), counts)
    print(dict(counts))
    assert counts["dropped"]
    assert counts["beyond the reference"] <= 1 + 0.1 * sum(counts[k] for k in ("right", "beyond the reference"))
