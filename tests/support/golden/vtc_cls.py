"""Golden files of VTC-CLS."""

from __future__ import annotations

import torch

from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from . import clip as tiny_clip
from support.oracles.views import plain_view


def select(rows, start_layer, token_num):
    """Selection for one image from [CLS] rows [L, H, N] of all L layers."""
    facts = ModelFacts(vision_layers=len(rows), feature_layer=len(rows) - 2, has_class_token=True)
    method = make_method("vtc-cls", keep=int(token_num), start_layer=int(start_layer))
    (stage,) = method.stages(facts)
    stats = {need: rows[need.layer].float().mean(0) for need in stage.needs}
    return stage.select(plain_view(torch.zeros(rows.shape[-1], 1), stage.keep_count, stats))


def compare(rows, arrays, expected_keep, expected_score, tolerance=1e-6):
    """All configurations of one image; returns what was kept in each."""
    kept = []
    for m, (start, count) in enumerate(zip(arrays["start_layer"], arrays["token_num"], strict=True)):
        got = select(rows, start, count)
        assert got.keep.tolist() == [i for i in expected_keep[m].tolist() if i >= 0], f"configuration {m}"
        torch.testing.assert_close(got.scores, torch.from_numpy(expected_score[m]), atol=tolerance, rtol=0)
        kept.append(got.keep)
    return kept


def full(arrays):
    compare(torch.from_numpy(arrays["attn"])[:, :, 0, 1:], arrays, arrays["keep"], arrays["score"])


def rows(arrays):
    compare(torch.from_numpy(arrays["cls_rows"])[:, :, 1:], arrays, arrays["keep"], arrays["score"])


def batch(arrays):
    for b, image in enumerate(torch.from_numpy(arrays["cls_rows"])):
        kept = compare(image[:, :, 1:], arrays, arrays["keep"][:, b], arrays["score"][:, b])
        features = torch.from_numpy(arrays["hidden"])[b, 1:][kept[1]]
        assert torch.equal(features, torch.from_numpy(arrays["features_cfg1"][b]))


def queries_and_keys(arrays):
    q, k = torch.from_numpy(arrays["q"]), torch.from_numpy(arrays["k"])
    for b in range(len(q)):
        compare(tiny_clip.class_row(q[b], k[b]), arrays, arrays["keep"][:, b], arrays["score"][:, b])


def clip(arrays):
    for attention in ("sdpa", "eager"):
        model = tiny_clip.build(arrays, attention)
        seen, hidden = tiny_clip.observe(model, torch.from_numpy(arrays["pixel_values"]))
        for b in range(seen.shape[1]):
            kept = compare(seen[:, b], arrays, arrays["keep"][:, b], arrays["score"][:, b], 1e-5)
            expected = torch.from_numpy(arrays["features_cfg0"][b])
            torch.testing.assert_close(hidden[b, 1:][kept[0]], expected, atol=1e-4, rtol=0)


KINDS = {
    "vtc_cls_full": full,
    "vtc_cls_rows576": rows,
    "vtc_cls_batch": batch,
    "vtc_cls_qk": queries_and_keys,
    "vtc_cls_clip": clip,
}
