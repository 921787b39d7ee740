"""Golden files of SCOPE and MMTok: official code executed, values from a fp64 reference."""

from __future__ import annotations

import torch

from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from ..oracles.views import plain_view
from .cenprune import order_of

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22, has_class_token=True)


def scope(arrays):
    for i in range(int(arrays["count"])):
        x, saliency = torch.from_numpy(arrays[f"features_{i}"]), torch.from_numpy(arrays[f"saliency_{i}"])
        crops, n, _ = x.shape
        k = int(arrays[f"k_{i}"])
        options = {"alpha": float(arrays[f"alpha_{i}"]), "combine": str(arrays[f"combine_{i}"])}
        method = make_method("scope", keep=k * crops, **options)
        (stage,) = method.stages(FACTS)
        view = plain_view(x.flatten(0, 1), stage.keep_count, dict.fromkeys(stage.needs, saliency.flatten()))
        view.part = torch.arange(crops).repeat_interleave(n)
        kept = stage.select(view).keep.view(crops, k).remainder(n)
        for crop, order in enumerate(arrays[f"order_{i}"].tolist()):
            weight = saliency[crop].double() ** options["alpha"]
            assert method.cover(x[crop], weight, k).tolist() == order
            assert kept[crop].tolist() == sorted(order)


def mmtok(arrays):
    for i in range(int(arrays["count"])):
        text, x = torch.from_numpy(arrays[f"text_{i}"]), torch.from_numpy(arrays[f"vision_{i}"])
        encoder, k = torch.from_numpy(arrays[f"vision_encoder_{i}"]), int(arrays[f"k_{i}"])
        options = {
            "alpha": float(arrays[f"alpha_{i}"]),
            "text_temperature": float(arrays[f"text_temperature_{i}"]),
            "vision_temperature": float(arrays[f"vision_temperature_{i}"]),
        }
        method = make_method("mmtok", keep=k, **options)
        if not len(arrays[f"excluded_{i}"]):  # columns that may not be picked are an option of the code alone
            found = method.cover(x, text, k, encoder)
            assert found.order.tolist() == arrays[f"order_{i}"].tolist()
            torch.testing.assert_close(
                found.values.float(), torch.from_numpy(arrays[f"gain_{i}"]), atol=1e-6, rtol=1e-3
            )
            own = make_method("mmtok", keep=k, **options)
            own.cover = lambda rows, words, k, own=own, encoder=encoder: type(own).cover(own, rows, words, k, encoder)
            (stage,) = own.stages(FACTS)
            view = plain_view(x, stage.keep_count)
            view.text = text
            chosen = stage.select(view)
            assert chosen.keep.tolist() == arrays[f"kept_{i}"].tolist()
            assert order_of(chosen) == arrays[f"order_{i}"].tolist()


KINDS = {"scope": scope, "mmtok": mmtok}
