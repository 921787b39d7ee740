"""Golden files of Cen-Prune (fp64 reference of the paper's equations) and of CDPruner (official code)."""

from __future__ import annotations

import torch

from vtc.core.centering import distinctiveness, soft_weight, working_rows
from vtc.core.diversity import greedy_spread, most_isolated, unit_rows
from vtc.core.dpp import greedy_map
from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods.cdpruner import MARGIN, mean_unlikeness

from ..oracles.views import plain_view

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22)


def order_of(selection):
    """Picks in their order: the scores of picked tokens fall with it."""
    return selection.keep[selection.scores[selection.keep].sort(descending=True).indices].tolist()


def run(method, features):
    (stage,) = method.stages(FACTS)
    return stage.select(plain_view(features, stage.keep_count))


def cen(arrays):
    for i in range(int(arrays["count"])):
        x, k = torch.from_numpy(arrays[f"features_{i}"]), int(arrays[f"k_{i}"])
        given = {
            "geometry": "cen",
            "standardize": "on" if arrays[f"standardize_{i}"] else "off",
            "normalize": str(arrays[f"normalize_{i}"]),
        }
        rows, _ = working_rows(x, given["standardize"])
        g = distinctiveness(rows)
        torch.testing.assert_close(g, torch.from_numpy(arrays[f"distinctiveness_{i}"]).double(), atol=1e-6, rtol=1e-5)
        weight = soft_weight(g, given["normalize"])
        torch.testing.assert_close(weight, torch.from_numpy(arrays[f"weight_{i}"]).double(), atol=1e-5, rtol=1e-5)
        picks = arrays[f"divprune_order_{i}"].tolist()
        assert order_of(run(make_method("divprune", keep=k, **given), x)) == picks
        unit = unit_rows(rows, centered=True)
        spread = greedy_spread(unit, k, most_isolated(unit), "k_center", weight)
        value = weight[spread.order[1:]] * (1 - spread.values)
        torch.testing.assert_close(
            value, torch.from_numpy(arrays[f"divprune_value_{i}"]).double(), atol=1e-5, rtol=1e-4
        )
        method = make_method("cdpruner", keep=k, **given)
        relevance = torch.from_numpy(arrays[f"relevance_{i}"])
        method.rate = lambda view, relevance=relevance: relevance
        assert order_of(run(method, x)) == arrays[f"cdpruner_order_{i}"].tolist()
        gains = greedy_map(unit, relevance * weight.float(), k).gains
        torch.testing.assert_close(gains, torch.from_numpy(arrays[f"cdpruner_gain_{i}"]), atol=1e-6, rtol=1e-3)


def cdpruner(arrays):
    for i in range(int(arrays["count"])):
        crops, text = torch.from_numpy(arrays[f"features_{i}"]), torch.from_numpy(arrays[f"text_embeds_{i}"])
        embeds, k = torch.from_numpy(arrays[f"image_embeds_{i}"]), int(arrays[f"k_{i}"])
        # the code's relevance: its margin stands in the numerator, its extremes are those of all crops
        unlike = mean_unlikeness(embeds.flatten(0, 1), text)
        relevance = (unlike - unlike.min() + MARGIN) / (unlike.max() - unlike.min())
        expected = torch.from_numpy(arrays[f"relevance_{i}"])
        torch.testing.assert_close(relevance.view_as(expected), expected, atol=1e-5, rtol=1e-5)
        method = make_method("cdpruner", keep=k * len(crops))
        method.rate = lambda view, relevance=relevance: relevance
        (stage,) = method.stages(FACTS)
        found = stage.select(tiled(crops, stage))
        n = crops.shape[1]
        assert found.keep.view(len(crops), k).remainder(n).tolist() == arrays[f"kept_{i}"].tolist()
        for crop, order, gain in zip(range(len(crops)), arrays[f"order_{i}"], arrays[f"gain_{i}"], strict=True):
            volume = greedy_map(unit_rows(crops[crop]), relevance[crop * n : (crop + 1) * n], k)
            assert volume.order.tolist() == order.tolist() and volume.rank == k
            torch.testing.assert_close(volume.gains, torch.from_numpy(gain), atol=1e-6, rtol=1e-3)


def tiled(crops, stage):
    """View of one image of several crops."""
    view = plain_view(crops.flatten(0, 1), stage.keep_count)
    view.part = torch.arange(len(crops)).repeat_interleave(crops.shape[1])
    return view


KINDS = {"cenprune": cen, "cdpruner": cdpruner}
