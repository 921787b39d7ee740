import pytest
import torch

from vtc.core.statistics.attention import AttentionCall, received
from vtc.core.statistics.focus import focus_of_call
from vtc.core.statistics.relevance import mean_mass, relevance
from vtc.core.statistics.rows import mean_rows
from vtc.kernels import attention_stats
from vtc.kernels.attention import blocks
from vtc.kernels.attention.naive import attention_published

# probabilities of fp32 scores; the inputs are the same in both, so the tolerance is one of fp32 whatever the dtype
CLOSE = dict(rtol=2e-5, atol=2e-6)


def compare(pair):
    reference, kernel = pair
    for a, b in zip(reference, kernel, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert b.dtype == torch.float32 and not b.isnan().any()
            torch.testing.assert_close(a, b, **CLOSE)
    return kernel


def qk(generator, batch, heads, kv, queries, keys, depth, dtype=torch.float32):
    # the layout of real modules: tokens before heads
    q = torch.randn(batch, queries, heads, depth, generator=generator).to(dtype).transpose(1, 2)
    return q, torch.randn(batch, keys, kv, depth, generator=generator).to(dtype).transpose(1, 2)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 577])
@pytest.mark.parametrize("causal", [False, True])
def test_sizes(both, generator, n, causal):
    q, k = qk(generator, 1, 2, 1, n, n, 16)
    found = compare(both(attention_stats, q, k, rows=torch.tensor([[0, n - 1, -1]]), causal=causal))
    assert found.received.sum().item() == pytest.approx(1, abs=1e-4)
    assert (found.rows[0, 2] == 0).all()


def test_long(both, generator):
    q, k = qk(generator, 1, 1, 1, 2879, 2879, 16)
    compare(both(attention_stats, q, k, rows=torch.tensor([[2878]])))


@pytest.mark.parametrize("depth", [8, 64, 72])
def test_dtypes_depths(both, generator, dtype, depth):
    q, k = qk(generator, 2, 4, 2, 40, 40, depth, dtype)
    rows = torch.randint(-1, 40, (2, 5), generator=generator)
    compare(both(attention_stats, q, k, rows=rows, causal=True))
    only = compare(both(attention_stats, q, k, received=False, rows=rows))
    assert only.received is None


def test_matches_a_plain_softmax(both, generator):
    q, k = qk(generator, 1, 4, 2, 33, 33, 32)
    plain = (q @ k.repeat_interleave(2, 1).mT * 32**-0.5).softmax(-1).mean(1)
    found = both(attention_stats, q, k, rows=torch.arange(33)[None])[1]
    torch.testing.assert_close(found.rows, plain, **CLOSE)
    torch.testing.assert_close(found.received, plain.mean(1), **CLOSE)
    torch.testing.assert_close(attention_published(q, k).mean(1), plain, **CLOSE)


def test_weights_choose_the_rows_that_count(both, generator):
    q, k = qk(generator, 2, 2, 2, 50, 50, 16)
    weights = torch.zeros(2, 50)
    weights[:, [3, 47]] = 0.5
    found = compare(both(attention_stats, q, k, weights=weights, rows=torch.tensor([[3, 47]] * 2)))
    torch.testing.assert_close(found.received, found.rows.mean(1), **CLOSE)


def test_hidden_keys_may_hold_nan(both, generator):
    q, k = qk(generator, 2, 2, 1, 30, 30, 16)
    mask = torch.rand(2, 30, generator=generator) > 0.3
    mask[0, :4] = False  # left padding: causal rows 0 to 3 see nothing at all
    mask[:, 20] = True
    k = k.clone()
    compare(both(attention_stats, q, k, rows=torch.tensor([[0, 29]] * 2), causal=True, key_mask=mask))
    k[~mask[:, None, :, None].expand_as(k)] = float("nan")
    _, poisoned = both(attention_stats, q, k, rows=torch.tensor([[0, 29]] * 2), causal=True, key_mask=mask)
    assert not poisoned.received.isnan().any() and not poisoned.rows.isnan().any()
    assert (poisoned.rows[0, 0] == 0).all() and (poisoned.received[~mask] == 0).all()


def test_ragged_lengths(both, generator):
    """Padding of a batch: its keys are hidden and its queries weigh nothing, whatever they hold."""
    q, k = qk(generator, 3, 2, 2, 37, 37, 16)
    k[1, :, 5:] = float("nan")
    q[1, :, 5:] = float("nan")
    lengths = torch.tensor([[37], [5], [1]])
    real = torch.arange(37) < lengths
    kernel = compare(both(attention_stats, q, k, key_mask=real, weights=real / lengths))
    assert (kernel.received[1, 5:] == 0).all()
    alone = both(attention_stats, q[1:2, :, :5], k[1:2, :, :5])[1]
    torch.testing.assert_close(kernel.received[1, :5], alone.received[0], **CLOSE)


def test_packed_windows(both, generator):
    q, k = qk(generator, 1, 3, 1, 75, 75, 16)
    edges = torch.tensor([0, 7, 8, 8, 75])
    rows = torch.tensor([[0, 6], [0, 1], [0, -1], [66, 3]])
    found = compare(both(attention_stats, q, k, cu_seqlens=edges, rows=rows))
    assert found.received.shape == (75,) and found.rows.shape == (4, 2, 67)
    alone = both(attention_stats, q[:, :, 8:], k[:, :, 8:])[1]
    torch.testing.assert_close(found.received[8:], alone.received[0], **CLOSE)


def test_more_keys_than_queries(both, generator):
    q, k = qk(generator, 2, 2, 2, 5, 23, 16)
    found = compare(both(attention_stats, q, k, causal=True, rows=torch.tensor([[0], [4]])))
    assert (found.rows[0, 0, 19:] == 0).all() and (found.rows[1, 0] > 0).all()


def test_large_scores_do_not_overflow(both, generator):
    q, k = qk(generator, 1, 1, 1, 20, 20, 16)
    compare(both(attention_stats, 300 * q, 300 * k, rows=torch.tensor([[7]])))


def dense(q, k, seen, softcap=None, bias=None):
    score = q.double() @ k.double().repeat_interleave(q.shape[1] // k.shape[1], 1).mT * q.shape[-1] ** -0.5
    score = score if softcap is None else softcap * torch.tanh(score / softcap)
    score = score if bias is None else score + bias
    return score.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0.0).mean(1).float()


@pytest.mark.parametrize("kind", ["window", "softcap", "bool", "additive", "per head"])
def test_what_the_kernel_does_not_know_runs_in_torch(both, generator, kind, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 100)
    q, k = qk(generator, 2, 4, 2, 11, 11, 8)
    rows, place = torch.tensor([[0, 10, -1]] * 2), torch.arange(11)
    seen, bias, options = (place[None] <= place[:, None]).expand(2, 1, -1, -1), None, dict(causal=True)
    if kind == "window":
        seen, options["window"] = seen & (place[None] > place[:, None] - 3), 3
    elif kind == "softcap":
        options["softcap"] = 0.5
    elif kind == "additive":
        bias = torch.rand(1, 1, 11, 11, generator=generator).masked_fill(~seen[:1], torch.finfo(torch.float32).min)
        options = dict(mask=bias)
    else:
        heads = 4 if kind == "per head" else 1
        seen = torch.rand(2, heads, 11, 11, generator=generator) > 0.5
        seen[0, :, 4] = False
        options = dict(mask=seen)
    expected = dense(q, k, seen, options.get("softcap"), bias)
    for found in both(attention_stats, q, k, rows=rows, **options):
        torch.testing.assert_close(found.received, expected.mean(1), **CLOSE)
        torch.testing.assert_close(found.rows, torch.cat([expected[:, [0, 10]], 0 * expected[:, :1]], 1), **CLOSE)


def test_nan_that_is_seen_is_not_hidden(both, generator):
    q, k = qk(generator, 1, 2, 2, 6, 6, 8)
    q[0, 0, 3] = float("nan")
    for mask in (None, torch.ones(1, 6, dtype=torch.bool)):
        for found in both(attention_stats, q, k, key_mask=mask, rows=torch.tensor([[2, 3]])):
            assert found.received.isnan().all()
            assert found.rows[:, 1].isnan().all() and not found.rows[:, 0].isnan().any()


def test_nan_in_an_additive_mask_shows(both, generator):
    q, k = qk(generator, 1, 2, 2, 6, 6, 8)
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 3, :] = torch.finfo(torch.float32).min  # sees nothing, and its row is zero
    mask[..., 4, :] = torch.nan
    for found in both(attention_stats, q, k, mask=mask, rows=torch.tensor([[2, 3, 4]])):
        assert (found.rows[0, 1] == 0).all() and found.rows[0, 2].isnan().all()
        assert not found.rows[0, 0].isnan().any() and found.received.isnan().all()


def test_masks_may_be_functions_of_the_queries(both, generator, monkeypatch):
    """Block masks: what a query sees is worked out for the queries at hand, never for all."""
    monkeypatch.setattr(blocks, "BLOCK", 100)
    q, k = qk(generator, 2, 4, 2, 11, 11, 8)
    asked = []

    def same_block(rows):
        asked.append(rows.shape[1])
        return ((rows // 4)[..., None] == torch.arange(11) // 4)[:, None]

    place = torch.arange(11) // 4
    expected = dense(q, k, (place[:, None] == place)[None, None])
    for found in both(attention_stats, q, k, mask=same_block, rows=torch.tensor([[0, 10]] * 2)):
        torch.testing.assert_close(found.received, expected.mean(1), **CLOSE)
        torch.testing.assert_close(found.rows, expected[:, [0, 10]], **CLOSE)
    assert max(asked) < 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(cu_seqlens=torch.tensor([0, 4]), mask=torch.ones(1, 1, 4, 4) > 0), "without a 4-D mask"),
        (dict(cu_seqlens=torch.tensor([0, 4]), mask=lambda rows: rows), "without a 4-D mask"),
        (dict(mask=torch.ones(1, 3, 4, 4) > 0), "mask has shape"),
        (dict(window=2), "part of causal attention"),
        (dict(softcap=0.0), "must be positive"),
        (dict(weights=torch.ones(1, 5)), "weights has shape"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        attention_stats(torch.zeros(1, 2, 4, 8), torch.zeros(1, 1, 4, 8), **options)


@pytest.mark.parametrize("kind", ["plain", "causal", "padding", "segments"])
def test_statistics_of_core_are_the_same_with_the_kernel(both, generator, kind):
    q, k = qk(generator, 1 if kind == "segments" else 2, 4, 2, 24, 24, 16)
    options = {
        "plain": {},
        "causal": dict(causal=True),
        "padding": dict(mask=(torch.arange(24) > 4).long().expand(2, -1), causal=True),
        "segments": dict(segments=(7, 1, 16)),
    }[kind]
    call = AttentionCall(q, k, 0.3, **options)
    rows, some = torch.tensor([[3, 9, 20]] * len(q)), torch.tensor([[True, False, True]] * len(q))
    text = (torch.arange(24) > 17).expand(len(q), -1)
    measured = [(received, ()), (mean_rows, (rows, some)), (relevance, (text, ~text))]
    if kind != "causal":
        measured.append((focus_of_call, (1.2,)))
    for function, arguments in measured:
        reference, kernel = both(function, call, *arguments)
        assert not reference.isnan().any()
        torch.testing.assert_close(reference, kernel, **CLOSE)


def test_mass_of_nobody_is_nan_on_every_path(both, generator):
    call = AttentionCall(*qk(generator, 1, 2, 2, 6, 6, 8), 0.3)
    nobody = torch.zeros(1, 6, dtype=torch.bool)
    assert all(found.isnan().all() for found in both(mean_mass, call, nobody, ~nobody))
