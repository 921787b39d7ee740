"""Golden files of ToDRE, stage 1, and the order of DivPrune stored beside it."""

from __future__ import annotations

import torch

from vtc.core.diversity import greedy_spread, most_isolated, unit_rows
from vtc.core.stage import ModelFacts, Need
from vtc.core.statistics import AttentionCall
from vtc.core.statistics.relevance import relevance
from vtc.methods import make_method

from support.oracles.views import plain_view, tiled_view

FACTS = ModelFacts(vision_layers=24, feature_layer=22, has_class_token=True)


def run(view_of, k, objective="max_sum"):
    (stage,) = make_method("todre", keep=k, objective=objective).stages(FACTS)
    return stage.select(view_of(stage))


def stage1(arrays):
    features, attention = torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["cls_attention"])
    k, pivot = int(arrays["k"]), int(arrays["pivot"])
    unit = unit_rows(features)
    for objective in ("max_sum", "k_center"):
        spread = greedy_spread(unit, k, pivot, objective)
        assert spread.order.tolist() == arrays[f"{objective}_order"].tolist()
        expected = torch.from_numpy(arrays[f"{objective}_value"])
        torch.testing.assert_close(spread.values, expected, atol=1e-4, rtol=1e-4)
        found = run(lambda s: plain_view(features, s.keep_count, {s.needs[0]: attention}), k, objective)
        assert found.keep.tolist() == arrays[f"{objective}_kept"].tolist()
    order = greedy_spread(unit, k, most_isolated(unit), "k_center").order
    assert order.tolist() == arrays["divprune_official_order"].tolist()
    (stage,) = make_method("divprune", keep=k).stages(FACTS)
    kept = stage.select(plain_view(features, stage.keep_count)).keep
    assert kept.tolist() == sorted(arrays["divprune_official_order"].tolist())


def pivot(arrays):
    k = int(arrays["k"])
    for name, modality in (("anyres", "image"), ("video", "video")):
        features = torch.from_numpy(arrays[f"{name}_features"])
        parts, n, width = features.shape
        flat = features.reshape(-1, width)
        attention = torch.from_numpy(arrays[f"{name}_cls_attention"]).reshape(-1)
        order = greedy_spread(unit_rows(flat), k, int(arrays[f"{name}_pivot"]), "max_sum").order.tolist()
        assert order == arrays[f"{name}_order"].tolist()

        def view(stage, modality=modality, flat=flat, attention=attention, parts=parts, n=n):
            stats = {stage.needs[0]: attention}
            if modality == "video":
                return plain_view(flat, stage.keep_count, stats, (parts, 1, n), modality="video")
            part, cell = torch.arange(parts).repeat_interleave(n), torch.arange(n).repeat(parts)
            role, grids = torch.zeros_like(part), [(1, n)] * parts
            return tiled_view(flat, stage.keep_count, stats, part, cell, role, grids, {})

        assert run(view, k).keep.tolist() == sorted(order)
        found = run(view, 1).keep.tolist()
        assert found == [int(arrays[f"{name}_pivot"])]
        if modality == "video":
            assert found[0] // n == int(arrays["video_frame"])


def stage2(arrays):
    for i in range(int(arrays["count"])):
        q, k, label = (torch.from_numpy(arrays[f"{name}_{i}"]) for name in ("q", "k", "label"))
        call = AttentionCall(q[None], k[None], q.shape[-1] ** -0.5, causal=True)
        found = relevance(call, label[None] == 2, label[None] == 1)
        expected = torch.tensor([[float(arrays[f"alpha_{kind}_{i}"]) for kind in ("tv", "vt")]])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        method = make_method("todre", tau=float(arrays[f"tau_{i}"]), stage2="on")
        stage = method.stages(ModelFacts("test", 24, 22, True, tuple(range(24)), 32))[-1]
        assert stage.at.layer == 28 and stage.needs == (Need("decoder", 27, "masses"),)
        visual = int((label == 1).sum())
        view = plain_view(torch.zeros(visual, 4), stage.keep_count, {stage.needs[0]: found[0]})
        assert len(stage.select(view).keep) == (0 if bool(arrays[f"drop_{i}"]) else visual)


KINDS = {
    "todre_stage1": stage1,
    "todre_pivot": pivot,
    "todre_stage2": stage2,
}
