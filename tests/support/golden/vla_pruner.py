"""Golden files of VLA-Pruner: reading out actions, the estimate, the choice, and whole episodes."""

from __future__ import annotations

import torch

from vtc.core.stage import ModelFacts
from vtc.core.statistics import AttentionCall
from vtc.core.statistics.rows import mean_rows
from vtc.engine.policy.actions import Tally
from vtc.methods import make_method
from vtc.methods.vla_pruner import INPUTS, estimate, spread, union

from support.oracles.views import plain_view

FACTS = ModelFacts("test", decoder_layers=32)
MODES = {"prefill": "prefill", "fastv": "last", "text": "text"}


def close(found, expected, rtol=1e-5, atol=1e-7):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=rtol, atol=atol)


def attention(rows):
    """Call whose softmax gives the rows [H, Q, K]."""
    logits = rows.clamp_min(1e-38).log()
    keys = torch.eye(rows.shape[-1], dtype=rows.dtype).expand(1, len(rows), -1, -1)
    return AttentionCall(logits[None], keys, 1.0)


def extract(arrays):
    kept, length, cut = torch.from_numpy(arrays["kept_indices"]), int(arrays["seq_len"]), int(arrays["prune_layer"])
    image = torch.arange(1, 257)
    for layer, expected in enumerate(arrays["action_vision_per_layer"]):
        place = torch.full((length,), -1)
        place[kept if layer >= cut else torch.arange(length)] = torch.arange(len(kept) if layer >= cut else length)
        tally = Tally(None, image[None], {0: 256})
        tally.places[layer] = place[image][None], (place[image] >= 0)[None]
        queries = sorted(int(k.split("_")[1][1:]) for k in arrays if k.endswith(f"_l{layer}") and k.startswith("row_a"))
        for query in queries:
            call = attention(torch.from_numpy(arrays[f"row_a{query}_l{layer}"])[:, None])
            shares = mean_rows(call, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
            tally.add([tally.pick(layer, shares, None)])
        close((tally.total / tally.count)[0], expected)


def guide(arrays):
    history, gamma = torch.from_numpy(arrays["history"]), float(arrays["gamma"])
    for order, name in (("code", "guide_official"), ("paper", "guide_paper")):
        found, expected = estimate(list(history), gamma, order), arrays[name]
        close(found / found.sum(), expected)  # the files scale to a sum of 1


def mmdp(arrays):
    assert spread(torch.from_numpy(arrays["features"]), int(arrays["num_keep"])).tolist() == arrays["order"].tolist()


def select(arrays):
    start, n = int(arrays["image_start"]), int(arrays["num_image"])
    attn, guided = torch.from_numpy(arrays["attn"])[0], torch.from_numpy(arrays["guide"])
    length = attn.shape[-1]
    rows = {
        "prefill": torch.arange(length),
        "fastv": torch.tensor([length - 1]),
        "text": torch.arange(start + n + 1, length - 1),
    }[str(arrays["mode"])]
    call = attention(attn)
    current = mean_rows(call, rows[None], torch.ones(1, len(rows), dtype=torch.bool))[0, start : start + n]
    close(current, arrays["current"])
    method = make_method("vla-pruner", keep=1 - float(arrays["r"]), semantic=MODES[str(arrays["mode"])])
    k = method.keep_count(n)
    embeds = torch.from_numpy(arrays["embeds"])[0, start : start + n]
    if len(guided):
        assert union(current, guided, k).tolist() == arrays["candidates"].tolist()
        kept = method.choose(current, guided, embeds, k)
    else:
        plain = make_method("vla-pruner", keep=method.keep, semantic=method.semantic, temporal=False)
        (stage,) = plain.stages(FACTS)
        kept = stage.select(plain_view(embeds, stage.keep_count, {stage.needs[0]: current, INPUTS: embeds})).keep
        assert kept.tolist() == sorted(arrays["candidates"].tolist())
    sequence = [*range(start), *(start + kept).tolist(), *range(start + n, length)]
    assert sequence == arrays["keep"].tolist()


def rollout(arrays):
    for order, name in (("code", "keep_official"), ("paper", "keep_paper")):
        method = make_method(
            "vla-pruner",
            keep=1 - float(arrays["r"]),
            window=int(arrays["window"]),
            gamma=float(arrays["gamma"]),
            decay_order=order,
        )
        (stage,), feedback = method.stages(FACTS), method.feedback(FACTS)
        slot = {}
        for t, expected in enumerate(arrays[name]):
            if arrays["resets"][t]:
                slot = {}
            scores, features = (torch.from_numpy(arrays[x][t]) for x in ("prefill_scores", "features"))
            view = plain_view(torch.zeros(len(scores), 1), stage.keep_count, {stage.needs[0]: scores, INPUTS: features})
            view.state = slot
            kept = torch.zeros(len(scores), dtype=torch.bool)
            kept[stage.select(view).keep] = True
            assert bool(kept.all()) == bool(arrays["warmup"][t]), t
            assert kept.tolist() == expected.tolist(), t
            feedback.take(slot, torch.from_numpy(arrays["action_scores"][t]) * kept)


KINDS = {
    "vla_pruner_extract": extract,
    "vla_pruner_guide": guide,
    "vla_pruner_mmdp": mmdp,
    "vla_pruner_select": select,
    "vla_pruner_rollout": rollout,
}
