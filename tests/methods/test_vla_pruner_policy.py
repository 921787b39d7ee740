"""VLA-Pruner on an OpenVLA-style policy: a language model that is told where its image tokens are."""

from functools import cache

import pytest
import torch
import transformers as tf

import vtc

from support import tiny
from support.policies import ACTIONS, PATCHES, Prismatic, Seen, alive_layers, masked_layers, observation

pytest.importorskip("timm")
LAYERS = 6


@cache
def policy_of(attention, cameras=1, **text):
    policy = Prismatic(cameras, **text)
    policy.language_model.set_attn_implementation(attention)
    return policy


@pytest.fixture(params=["sdpa", "eager"])
def policy(request):
    found = policy_of(request.param)
    yield found
    assert "_vtc_handle" not in found.language_model.__dict__, "a test left its model patched"


@pytest.fixture
def plain():
    found = policy_of("sdpa")
    yield found
    assert "_vtc_handle" not in found.language_model.__dict__, "a test left its model patched"


def patched(policy, method="vla-pruner", keep=0.5, actions=0, **options):
    lengths = (PATCHES,) * policy.cameras if policy.cameras > 1 else PATCHES
    images = vtc.Columns(1, lengths, actions)
    return vtc.patched(policy.language_model, method, keep=keep, images=images, **options)


@torch.no_grad()
def oracle(policy, handle, obs, tokens=None, seen=None, chunk=0):
    """Logits of the full-length, cache-free model that does not see what was dropped."""
    pixels, ids = obs
    real = policy.mask(ids)
    columns = []
    for log in handle.last.images:
        first = int(real[log.row].argmax()) + 1 + log.image * PATCHES
        columns.append(torch.arange(first, first + PATCHES))
    alive = alive_layers(handle.last, columns, real, LAYERS)
    with handle.disabled(), masked_layers(policy.language_model.model.layers, alive, seen):
        if chunk:
            return policy.chunk(pixels, ids, chunk)
        embeds, table = policy.embed(pixels, ids), policy.language_model.get_input_embeddings()
        embeds = torch.cat([embeds, table(tokens[:, :-1])], 1)
        mask = torch.cat([real, torch.ones_like(tokens[:, :-1])], 1)
        places = (mask.cumsum(1) - 1).clamp_min(0)
        out = policy.language_model(inputs_embeds=embeds, attention_mask=mask, position_ids=places, use_cache=False)
        return out.logits[:, real.shape[1] - 1 :]


def history(handle, row=0):
    return handle.memory.save().rows[row]["vla-pruner"]["history"]


def logits(out):
    return torch.stack(out.logits, 1)


def test_pruned_actions_equal_masked_ones(policy):
    with patched(policy) as handle:
        for seed in range(5):
            obs = observation(seed, rows=2, words=(6, 4))
            out = policy.act(*obs)
            assert (logits(out) - oracle(policy, handle, obs, out.sequences)).abs().max() < 3e-5
            assert handle.last.after == (32 if seed < 3 else 16)
        assert handle.last.layers == [(0, [23, 21]), (3, [15, 13])]
        assert [layer.keys.shape[2] for layer in out.past_key_values.layers] == [29] * 3 + [21] * 3
        assert out.past_key_values.get_seq_length() == 29


def test_keep_1_and_warm_up_are_bit_identical(policy):
    expected = [policy.act(*observation(seed)) for seed in range(4)]
    with patched(policy, keep=1.0) as handle:
        for seed in range(4):
            out = policy.act(*observation(seed))
            assert torch.equal(logits(out), logits(expected[seed]))
            assert torch.equal(out.sequences, expected[seed].sequences)
        handle.keep = 0.25
        handle.reset()
        assert all(torch.equal(logits(policy.act(*observation(s))), logits(expected[s])) for s in range(3))
        assert not torch.equal(logits(policy.act(*observation(3))), logits(expected[3]))
    assert torch.equal(logits(policy.act(*observation(3))), logits(expected[3]))


def test_a_padded_batch_equals_its_rows_alone(plain):
    """Rows of different length; one of them starts a new episode in between, so pruned rows stand beside full ones."""
    batch = [observation(seed, rows=2, words=(6, 3)) for seed in range(6)]
    with patched(plain, keep=0.25) as handle:
        together = []
        for t, obs in enumerate(batch):
            if t == 4:
                handle.reset([False, True])
            together.append(logits(plain.act(*obs)))
        assert handle.last.layers == [(0, [23, 20]), (3, [11, 20])]
        for row, skip in ((0, 0), (1, 3)):
            handle.reset()
            for t, (pixels, ids) in enumerate(batch):
                if row == 1 and t == 4:
                    handle.reset()
                alone = logits(plain.act(pixels[row : row + 1], ids[row : row + 1, skip:]))
                assert (alone[0] - together[t][row]).abs().max() < 3e-5


@pytest.mark.parametrize("layers", [None, "upper_half", (1,)])
@pytest.mark.parametrize("pruned", [False, True])
def test_action_attention_equals_eager_rows(layers, pruned):
    """The last prompt row and the rows of the first six tokens, mean over heads and layers; 0 where pruned."""
    policy = policy_of("eager")
    with patched(policy, action_layers=layers, warmup="semantic" if pruned else "full") as handle:
        obs, seen = observation(3, rows=2, words=(6, 4)), Seen({})
        out = policy.act(*obs)
        oracle(policy, handle, obs, out.sequences, seen)
        watched = {None: (2,), "upper_half": (3, 4, 5), (1,): (1,)}[layers]
        for row, first in ((0, 1), (1, 3)):
            rows = [seen.rows[i][0][row, :, -ACTIONS:, first : first + PATCHES].mean((0, 1)) for i in watched]
            assert (history(handle, row)[-1] - torch.stack(rows).mean(0)).abs().max() < 1e-6
        dropped = int((history(handle)[-1] == 0).sum())
        assert dropped == (8 if pruned and layers == "upper_half" else 0)


@pytest.mark.parametrize("semantic", ["prefill", "last", "text"])
def test_semantic_scores_equal_eager_rows(semantic):
    policy, obs, seen = policy_of("eager"), observation(5, rows=2, words=(6, 4)), Seen({})
    with patched(policy, semantic=semantic, temporal=False) as handle:
        out = policy.act(*obs)
        with (
            handle.disabled(),
            masked_layers(policy.language_model.model.layers, policy.mask(obs[1])[None].bool().expand(6, -1, -1), seen),
        ):
            policy.language_model(
                inputs_embeds=policy.embed(*obs),
                attention_mask=policy.mask(obs[1]),
                use_cache=False,
                position_ids=(policy.mask(obs[1]).cumsum(1) - 1).clamp_min(0),
            )
        assert out.sequences.shape == (2, ACTIONS)
        for log, first in zip(handle.last.images, (0, 2), strict=True):
            full = seen.rows[2][0][log.row, :, first:].mean(0)
            chosen = {"prefill": full, "last": full[-1:], "text": full[PATCHES + 2 : -1]}[semantic]
            assert (log.scores - chosen[:, first + 1 : first + 1 + PATCHES].mean(0)).abs().max() < 1e-6


def test_a_loop_of_its_own_equals_generate(plain):
    """The end of a call is seen where the next one begins; saving writes the last one down."""
    obs = [observation(seed, rows=2, words=(6, 4)) for seed in range(5)]
    with patched(plain) as handle:
        expected = [logits(plain.act(*o)) for o in obs]
        remembered = history(handle)
        handle.reset()
        with torch.no_grad():
            found = [plain.loop(*o) for o in obs]
        assert handle.state.pending is not None
        # the loop feeds its last token as well, which generate does not
        assert all((a - b).abs().max() < 3e-5 for a, b in zip(found[:3], expected, strict=False))
        assert len(history(handle)) == len(remembered) == 3 and handle.state.pending is None


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_chunk_in_one_pass(attention):
    """OpenVLA-OFT: placeholders that see everything, two cameras; the prompt's own rows give the semantic score."""
    policy = policy_of(attention, 2)
    with torch.no_grad(), patched(policy, actions=5) as handle:
        for seed in range(5):
            obs, seen = observation(seed, rows=2, words=(6, 4), cameras=2), Seen({})
            found = policy.chunk(*obs, 5)
            assert (found - oracle(policy, handle, obs, seen=seen, chunk=5)).abs().max() < 3e-5
            assert [log.after for log in handle.last.images] == [16] * 4 or seed >= 3
            if attention == "eager":
                for row, first in ((0, 1), (1, 3)):
                    rows = [seen.rows[i][0][row, :, -5:, first : first + 2 * PATCHES].mean((0, 1)) for i in (3, 4, 5)]
                    assert (history(handle, row)[-1] - torch.stack(rows).mean(0)).abs().max() < 1e-6
                    read = seen.rows[2][0][row, :, first - 1 : -5, first : first + 2 * PATCHES].mean((0, 1))
                    scores = torch.cat([log.scores for log in handle.last.images if log.row == row])
                    assert (scores - read).abs().max() < 1e-6
        assert handle.last.layers == [(0, [44, 42]), (3, [28, 26])]


def test_rows_that_end_early_count_what_they_asked(plain):
    """A row of a batch that has met its end-of-sequence token remembers what it would remember alone."""
    pixels, ids = observation(2, rows=2, words=(6, 6))
    free = plain.act(pixels, ids).sequences
    row, step = next(
        (r, t) for r in (0, 1) for t in (2, 3, 4) if free[r, t] not in free[1 - r] and free[r, t] not in free[r, :t]
    )
    options = dict(eos_token_id=int(free[row, step]), pad_token_id=0)
    with patched(plain) as handle:
        plain.act(pixels, ids, **options)
        together = [history(handle, r)[-1] for r in (0, 1)]
        for r in (0, 1):
            handle.reset()
            out = plain.act(pixels[r : r + 1], ids[r : r + 1], **options)
            assert out.sequences.shape[1] == (step + 1 if r == row else ACTIONS)
            assert (history(handle)[-1] - together[r]).abs().max() < 1e-6


@pytest.mark.parametrize("method", ["fastv", "divprune", "random", "pool", "pyramiddrop", "transprune", "todre"])
def test_other_methods(plain, method):
    obs = observation(1, rows=2, words=(6, 4))
    expected = logits(plain.act(*obs))
    options = {"positions": "keep"} if method in ("pyramiddrop", "divprune") else {}
    with patched(plain, method, keep=0.5, **options) as handle:
        out = plain.act(*obs)
        assert 0 < handle.last.after < handle.last.before
        if method in ("fastv", *options):
            assert (logits(out) - oracle(plain, handle, obs, out.sequences)).abs().max() < 3e-5
        for row, skip in ((0, 0), (1, 2)):
            alone = plain.act(obs[0][row : row + 1], obs[1][row : row + 1, skip:])
            assert method == "random" or (logits(alone)[0] - logits(out)[row]).abs().max() < 3e-5
    assert torch.equal(logits(plain.act(*obs)), expected)


def test_dropping_before_the_model_equals_a_shorter_prompt(plain):
    obs = observation(1)
    with patched(plain, "divprune", keep=0.5, positions="renumber") as handle:
        out = logits(plain.act(*obs))
        kept = handle.last.images[0].kept + 1
    embeds = plain.embed(*obs)
    alive = torch.cat([torch.tensor([0]), kept, torch.arange(1 + PATCHES, embeds.shape[1])])
    with torch.no_grad():
        short = plain.language_model(inputs_embeds=embeds[:, alive]).logits[:, -1]
    assert (out[:, 0] - short).abs().max() < 3e-5


@pytest.mark.parametrize("method", ["vtc-cls", "hired", "visionzip"])
def test_methods_of_the_encoder_say_why_not(plain, method):
    with pytest.raises(ValueError, match="(?i)encoder|vision|tower"):
        vtc.patch(plain.language_model, method, images=vtc.Columns(1, PATCHES))


def test_a_decoder_without_a_head(plain):
    """A policy with a head of its own calls the inner decoder."""
    model, obs = plain.language_model.model, observation(4, rows=2, words=(6, 4))
    with (
        torch.no_grad(),
        vtc.patched(model, "vla-pruner", keep=0.5, warmup="semantic", images=vtc.Columns(1, 16)) as h,
    ):
        hidden = model(inputs_embeds=plain.embed(*obs), attention_mask=plain.mask(obs[1])).last_hidden_state
        assert hidden.shape[1] == 23 and h.last.after == 16
        first = plain.language_model.lm_head(hidden[:, -1])
    with patched(plain, warmup="semantic"):
        mask = plain.mask(obs[1])
        whole = plain.language_model(inputs_embeds=plain.embed(*obs), attention_mask=mask).logits[:, -1]
    assert (first - whole).abs().max() < 3e-5


def test_sliding_windows_and_static_caches(plain):
    """Keys of a windowed layer are its last ones; static layers have blank ones behind them."""
    config = tiny.decoder_config("mistral", num_hidden_layers=4, sliding_window=14)
    model = tiny.lively(tf.MistralForCausalLM(config))
    model.set_attn_implementation("eager")
    embeds = tiny.noise(1, 20, 32, seed=3)
    with vtc.patched(model, "vla-pruner", keep=0.5, images=vtc.Columns(1, PATCHES), action_layers=[1, 3]) as handle:
        out = model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=ACTIONS)
        with handle.disabled(), torch.no_grad():
            whole = torch.cat([embeds, model.get_input_embeddings()(out[:, :-1])], 1)
            rows = model(inputs_embeds=whole, output_attentions=True, use_cache=False).attentions
        expected = torch.stack([rows[i][0, :, -ACTIONS:, 1 : 1 + PATCHES].mean((0, 1)) for i in (1, 3)]).mean(0)
        assert (history(handle)[-1] - expected).abs().max() < 1e-6
    with patched(plain, action_layers="upper_half", warmup="semantic") as handle:
        obs, found = observation(1, rows=2, words=(6, 4)), []
        for kind in (None, "static"):
            handle.reset()
            out = plain.act(*obs, cache_implementation=kind, disable_compile=True)
            found.append((logits(out), history(handle)[-1]))
        assert all((a - b).abs().max() < 3e-5 for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (dict(images=(1, 16)), TypeError, r"\(1, 16\) is a tuple; pass vtc\.Columns"),
        (dict(images=vtc.Columns(1, 16), adapter="llava"), TypeError, "pass one of them"),
        (dict(images=vtc.Columns(1, 16), action_layers=[6]), ValueError, r"0 \.\. 5"),
        (dict(images=vtc.Columns(1, 16), layer=6), ValueError, "has 6 layers"),
    ],
)
def test_wrong_arguments(plain, options, error, text):
    with pytest.raises(error, match=text):
        vtc.patch(plain.language_model, "vla-pruner", **options)


def test_the_policy_itself_is_not_the_model(plain):
    with pytest.raises(TypeError, match=r"policy\.language_model"):
        vtc.patch(plain, "vla-pruner", images=vtc.Columns(1, 16))


def test_a_prompt_too_short_for_the_image(plain):
    with patched(plain), pytest.raises(ValueError, match="10 tokens cannot hold 16 image tokens"):
        plain.language_model(inputs_embeds=torch.zeros(1, 10, 32))


def test_text_alone_is_left_alone(plain):
    ids = observation(0)[1]
    expected = plain.language_model(input_ids=ids).logits
    with patched(plain) as handle:
        assert torch.equal(plain.language_model(input_ids=ids).logits, expected)
        assert handle.last is None and not handle.state.rows
