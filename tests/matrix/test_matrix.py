"""Every family x every method x forward and generate x one row and a padded batch x kernels: works, or says why not.

The default suite runs a covering subset, ``make matrix`` everything.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import vtc
from vtc.core.stage import Decoder
from vtc.proof.setups import closes_up

from support import oracle, tiny, tiny_families
from support.requests import VIDEO_ONLY

CASES, METHODS = list(tiny_families.ALL), vtc.list_methods()
FIRST = [c for i, c in enumerate(CASES) if c.split("-")[0] not in {d.split("-")[0] for d in CASES[:i]}]
VIDEOS = {"pixel_values_videos"}
FILMS = [c for c in CASES if set(tiny.alone(tiny_families.ALL[c], 0)) & VIDEOS]
STEPS = dict(max_new_tokens=4)
# recycling may keep a few tokens more or fewer unless told otherwise, and the matrix counts
# and the first calls of a robot's episode keep everything
OPTIONS = {
    "vflowopt": {"exact_budget": True},
    "quota": {"frame_scores": "uniform"},
    "vla-pruner": {"warmup": "semantic"},
}


def covered(case: str, method: str, attention: str) -> bool:
    """Two families and both kernels for every method, and one more method for every case."""
    j, among = METHODS.index(method), FILMS if method in VIDEO_ONLY else FIRST
    picks = {among[j % len(among)]: "sdpa", among[(j + 1 + j // len(among)) % len(among)]: "eager"}
    others = {c: METHODS[i % len(METHODS)] for i, c in enumerate(CASES)}
    return picks.get(case) == attention or (others.get(case) == method and attention == "sdpa")


PARAMETERS = [
    pytest.param(c, m, a, id=f"{c}-{m}-{a}", marks=() if covered(c, m, a) else pytest.mark.slow)
    for c in CASES
    for m in METHODS
    for a in ("sdpa", "eager")
]


@functools.cache
def batches(name: str) -> list[dict[str, Tensor]]:
    """One row with an image; a left-padded batch of three rows with one, two and no images."""
    case = tiny_families.ALL[name]
    return [tiny.alone(case, 0), tiny.batch(case)]


@functools.cache
def unpatched(model: Any, name: str) -> list[tuple[Tensor, Any]]:
    """Logits and generation of the plain model for both batches."""
    with torch.no_grad():
        return [(model(**inputs).logits, oracle.generate(model, inputs, **STEPS)) for inputs in batches(name)]


@functools.cache
def own_noise(model: Any, name: str, number: int) -> float:
    """What a cache changes in the logits of the plain model: rounding, in some releases and families more."""
    free = oracle.generate(model, batches(name)[number], **STEPS, use_cache=False)
    cached = unpatched(model, name)[number][1]
    return float((torch.stack(free.logits) - torch.stack(cached.logits)).abs().max())


def state(model: Any) -> list[tuple]:
    """Everything a patch may touch: hooks, instance attributes, configs."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    hooks = lambda m: [tuple(map(id, getattr(m, k).values())) for k in kinds]  # noqa: E731
    return [(n, tuple(m.__dict__), id(m.__dict__.get("config")), *hooks(m)) for n, m in model.named_modules()]


def equal(a: Any, b: Any) -> bool:
    logits = zip(a.logits, b.logits, strict=True)
    return torch.equal(a.sequences, b.sequences) and all(torch.equal(x, y) for x, y in logits)


def patch_or_refuse(model: Any, method: str, keep: Any, record_property: Any) -> Any:
    """Handle, or None when the method refuses this model: a ValueError that says why and leaves nothing behind."""
    before = state(model)
    try:
        return vtc.patch(model, method, keep=keep, **OPTIONS.get(method, {}))
    except ValueError as error:
        assert len(str(error)) > 40
        assert state(model) == before
        record_property("refused", str(error))
        return None


@pytest.mark.parametrize(("name", "method", "attention"), PARAMETERS)
def test_matrix(tiny_model, record_property, name, method, attention):
    model = tiny_model(name, attention)
    plain, before = unpatched(model, name), state(model)
    handle = patch_or_refuse(model, method, 1.0, record_property)
    if handle is None:
        return
    try:
        identity(model, name, plain, handle)
        vtc.patch(model, "random", keep=0.5)
        # the third patch replaces the second: one set of hooks
        handle = vtc.patch(model, method, keep=0.25, **OPTIONS.get(method, {}))
        for number in range(len(batches(name))):
            if idle(handle, batches(name)[number]):
                with pytest.warns(UserWarning, match="left whole"):
                    assert torch.equal(model(**batches(name)[number]).logits, plain[number][0])
            else:
                pruned(model, handle, name, number)
    finally:
        vtc.unpatch(model)
    assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(**batches(name)[1]).logits, plain[1][0])


def idle(handle: Any, inputs: dict[str, Tensor]) -> bool:
    """True where the method acts on videos alone and there is none."""
    stages = handle.methods[0].stages(handle.facts)
    return all(s.modalities == ("video",) for s in stages) and not set(inputs) & VIDEOS


def identity(model: Any, name: str, plain: list[tuple[Tensor, Any]], handle: Any) -> None:
    """keep=1: the same bits in logits and ids."""
    for inputs, (logits, generated) in zip(batches(name), plain, strict=True):
        handle.reset()
        with torch.inference_mode():
            assert torch.equal(model(**inputs).logits, logits)
        assert equal(oracle.generate(model, inputs, **STEPS), generated)


def pruned(model: Any, handle: Any, name: str, number: int) -> None:
    """keep=0.25: fewer tokens, forward and cached generation equal cache-free forwards."""
    inputs = batches(name)[number]
    handle.reset()
    out = oracle.generate(model, inputs, **STEPS)
    record = handle.last
    counts(handle, record)
    with torch.no_grad():
        forward = model(**inputs).logits[:, -1]
    logits, (method,) = torch.stack(out.logits, 1), handle.methods
    hybrid = bool(handle.facts.linear_layers)
    with handle.disabled():
        own = own_noise(model, name, number)
    exact = own < 1e-3
    # linear attention (recurrent or chunked kernels) and Gemma 4's large features round more coarsely
    tolerance = max(1e-5, 20 * own) if exact else 1e-5
    stages = method.stages(handle.facts)
    late = any(isinstance(s.at, Decoder) for s in stages)
    merged = any(log.raw_groups is not None for log in record.images)
    if handle.adapter.multimodal_rope or bool(inputs["attention_mask"].all()):
        # elsewhere a bare forward counts positions from the padding on, unlike generate
        assert (forward - logits[:, 0]).abs().max() < tolerance
    if exact and not handle.state.rows:
        free = oracle.generate(model, inputs, **STEPS, use_cache=False)
        assert (torch.stack(free.logits, 1) - logits).abs().max() < tolerance
    if merged and not (exact and not late):
        alone(model, name, inputs, logits, tolerance)
    if not merged and not hybrid:
        renumber = closes_up(stages) if not handle.adapter.multimodal_rope else False
        with handle.disabled():
            expected = oracle.oracle_logits(model, inputs, record, oracle.new_tokens(out, inputs), renumber)
        assert (logits - expected).abs().max() < tolerance


def alone(model: Any, name: str, inputs: dict[str, Tensor], logits: Tensor, tolerance: float) -> None:
    """Each row of a batch gives what it gives by itself."""
    case = tiny_families.ALL[name]
    for row in range(len(inputs["input_ids"])):
        one = oracle.generate(model, tiny.alone(case, row), **STEPS)
        assert (torch.stack(one.logits, 1)[0] - logits[row]).abs().max() < tolerance


def counts(handle: Any, record: Any) -> None:
    """At most the budget before the decoder (per image) and after its cuts (per row); what the layers held adds up.

    Newlines and the rounding per tile come on top. A decision over a whole row may leave one image of it empty, and a
    relevance test may leave nothing.
    """
    stages = handle.methods[0].stages(handle.facts)
    early = [s for s in stages if not isinstance(s.at, Decoder)]
    late = [s for s in stages if isinstance(s.at, Decoder)]
    budgets: dict[int, int] = {}
    gone = 0
    with_video = {log.row for log in record.images if log.modality == "video"}
    for log in record.images:
        unit = log.unit.filled()
        slack = 0 if len(unit.part_grids) == 1 else len(unit.part_grids) + int((unit.role != 0).sum())
        # methods for video leave still images beside one alone
        untouched = log.modality == "image" and any(s.scope == "clip" for s in stages) and log.row in with_video
        untouched = untouched or any(log.modality not in s.modalities for s in stages)
        if handle.methods[0].name == "evs":  # the first frame of a video stays whole
            slack += math.prod(unit.part_grids[0])
        for stage in early if not untouched else ():
            assert 0 < len(log.entered) <= stage.keep_count(log.before) + slack
        final = log.before if not late else handle.methods[0].keep_count(log.before)
        budgets[log.row] = budgets.get(log.row, 0) + final + slack
        gone += log.before - log.after
    for row, budget in budgets.items():
        assert sum(log.after for log in record.images if log.row == row) <= budget
    _, last = record.layers[-1]
    assert sum(record.sequence) - sum(last) == gone > 0


@pytest.mark.parametrize("name", CASES)
def test_half_precision_and_modes(tiny_model, record_property, name):
    """bf16, no_grad, inference_mode, embedding gradients; keep=1 is bit-identical in bf16 as well."""
    model = tiny_families.ALL[name].build().bfloat16()
    inputs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in batches(name)[1].items()}
    with torch.no_grad():
        plain = model(**inputs).logits
        with vtc.patched(model, "auto", keep=1.0):
            assert torch.equal(model(**inputs).logits, plain)
    with vtc.patched(model, "auto", keep=0.25) as handle:
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.dtype == torch.bfloat16 and bool(logits.isfinite().all())
        with torch.inference_mode():
            assert torch.equal(model(**inputs).logits, logits)
        model(**inputs).logits[:, -1].float().sum().backward()
        counts(handle, handle.last)
    tower = handle.adapter.tower_blocks(model, "video" if set(inputs) & {"pixel_values_videos"} else "image")
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in tower[0].parameters())


def test_every_family_has_a_case(tiny_model):
    found = {vtc.find_adapter(tiny_model(name)).family for name in CASES}
    assert found == set(vtc.list_families()) - tiny_families.OLD - tiny_families.POLICIES


def test_the_covering_subset_covers():
    kept = [p.values for p in PARAMETERS if not p.marks]
    first = {c.split("-")[0] for c in CASES}
    assert {f for f in first if len({m for c, m, _ in kept if c.split("-")[0] == f}) >= 2} == first
    assert {m for m in METHODS if len({c.split("-")[0] for c, n, _ in kept if n == m}) >= 2} == set(METHODS)
    assert {a for _, _, a in kept} == {"sdpa", "eager"}
