"""Golden files of TransPrune: transition, one cut, and a small decoder from end to end."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vtc.core.stage import ModelFacts
from vtc.core.statistics import AttentionCall
from vtc.core.statistics.rows import mean_rows
from vtc.kernels import token_transition as transition
from vtc.methods import make_method

from .small_llama import SmallVLM, install
from support.oracles.views import plain_view

FACTS = ModelFacts("test", decoder_layers=32)


def close(found, expected, rtol=1e-4, atol=1e-6):
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=rtol, atol=atol)


def ttv(arrays):
    rows = {k: torch.from_numpy(arrays[k])[None] for k in ("attn_in", "attn_out", "ffn_in", "ffn_out")}
    attention, ffn = transition(rows["attn_in"], rows["attn_out"]), transition(rows["ffn_in"], rows["ffn_out"])
    close(attention[0], arrays["attn_ttv"])
    close(ffn[0], arrays["ffn_ttv"])
    close((attention + ffn)[0], arrays["layer_ttv"])
    start, end = arrays["image_span"].tolist()
    image = torch.zeros(1, rows["attn_in"].shape[1], dtype=torch.bool)
    image[:, start:end] = True
    paper = [transition(rows[f"{m}_in"], rows[f"{m}_out"], image, "abs") for m in ("attn", "ffn")]
    close(sum(paper)[0, start:end], arrays["paper_layer_ttv_image"])


def rotated(x, positions, theta):
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / half)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def stage(arrays):
    x, heads = torch.from_numpy(arrays["features"]), int(arrays["num_heads"])
    normed = F.rms_norm(x, x.shape[-1:], torch.from_numpy(arrays["norm_w"]), float(arrays["rms_eps"]))
    positions, theta = torch.from_numpy(arrays["position_ids"]), float(arrays["rope_theta"])
    q, k = (
        rotated((normed @ torch.from_numpy(arrays[w]).T).view(len(x), heads, -1).transpose(0, 1), positions, theta)
        for w in ("q_w", "k_w")
    )
    (begin, end), (first, last) = arrays["image_span"].tolist(), arrays["text_span"].tolist()
    call = AttentionCall(q[None], k[None], q.shape[-1] ** -0.5, causal=True)
    text = torch.arange(first, last)[None]
    iga = mean_rows(call, text, torch.ones_like(text, dtype=torch.bool))[0, begin:end]
    close(iga, arrays["iga_raw"])
    n, keep = end - begin, int(arrays["keep"])
    layers = torch.from_numpy(arrays["ttv_layers"])[:, begin:end]
    count = len(layers)
    method = make_method(
        "transprune", keep=keep, ratios=(0.5,), prune_layers=(count,), accumulate_layers=range(1, count + 1)
    )
    (cut,) = method.stages(FACTS)
    assert cut.at.layer == count
    stats = dict(zip(cut.needs, [*layers, iga], strict=True))
    found = cut.select(plain_view(torch.zeros(n, 1), cut.keep_count, stats))
    close(2 * found.scores, arrays["score"])  # alpha = 0.5 halves the plain sum of the code
    assert found.keep.tolist() == arrays["kept"].tolist()
    assert arrays["new_position_ids"].tolist() == list(range(len(x) - n + keep)) and cut.positions == "renumber"


def end_to_end(arrays):
    model = SmallVLM(arrays)
    layers = arrays["prune_layers"].tolist()
    method = make_method(
        "transprune",
        ratios=[float(str(r)) for r in arrays["ratios"]],
        prune_layers=layers,
        accumulate_layers=arrays["accumulate_layers"].tolist(),
    )
    record = install(model, method)
    hidden, cache = model.prefill()
    begin, n = arrays["image_span"][0], arrays["image_span"][1] - arrays["image_span"][0]
    kept = torch.arange(n)
    for number, layer in enumerate(layers):
        view, choice = record.seen[number]
        close(2 * choice.scores, arrays[f"stage{number}_score"])
        parts = torch.stack([view.stats[need] for need in record.stages[number].needs])
        t, a = parts[:-1].sum(0), parts[-1]
        close(t / t.sum(), arrays[f"stage{number}_ttv_norm"])
        close(a / a.sum(), arrays[f"stage{number}_iga_norm"])
        close(parts[-2], arrays[f"ttv_layer{layer}"][begin : begin + len(kept)])
        assert choice.keep.tolist() == arrays[f"stage{number}_kept"].tolist()
        kept = kept[choice.keep]
        assert kept.tolist() == arrays[f"stage{number}_kept_original"].tolist()
    assert [layer.keys.shape[2] for layer in cache.layers] == arrays["kv_lengths"].tolist()
    alive = torch.ones(len(hidden), dtype=torch.bool)
    alive[begin : begin + n] = False
    alive[begin + kept] = True
    close(hidden[alive], arrays["last_hidden"], atol=1e-4)
    for step, expected in enumerate(arrays["decode_hidden"]):
        close(model.step(torch.from_numpy(arrays["decode_embeds"][step]), cache), expected, atol=1e-4)
    assert [layer.keys.shape[2] for layer in cache.layers] == [x + 2 for x in arrays["kv_lengths"].tolist()]


KINDS = {
    "transprune_ttv": ttv,
    "transprune_stage": stage,
    "transprune_e2e": end_to_end,
}
