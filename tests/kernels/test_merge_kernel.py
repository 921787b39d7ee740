import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtc.core.merge import grouped_mean
from vtc.kernels import assign_nearest, group_means, group_shares, merge_tokens
from vtc.kernels.merge.naive import merge_published

from support.rows import exact_rows

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def close(a, b, dtype):
    assert a.dtype == b.dtype
    torch.testing.assert_close(a.float(), b.float(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def kept(generator, batch, n, k):
    return torch.stack([torch.randperm(n, generator=generator)[:k].sort().values for _ in range(batch)])


@pytest.mark.parametrize("n", [1, 2, 3, 17, 577, 2879])
def test_sizes(both, generator, n):
    x, k = torch.randn(1, n, 24, generator=generator), max(1, n // 10)
    reference, kernel = both(merge_tokens, x, kept(generator, 1, n, k), torch.rand(1, n, generator=generator))
    assert torch.equal(reference.groups, kernel.groups)
    close(reference.values, kernel.values, x.dtype)


@pytest.mark.parametrize("k", [0, 1, 17])
def test_few_and_all(both, generator, k):
    x, index = torch.randn(2, 17, 8, generator=generator), kept(generator, 2, 17, k)
    reference, kernel = both(merge_tokens, x, index)
    assert torch.equal(reference.groups, kernel.groups)
    close(reference.values, kernel.values, x.dtype)
    if k == 17:
        assert torch.equal(kernel.values, x)
    if k == 1:
        assert (kernel.groups == 0).all()
    if k == 0:
        assert (kernel.groups == -1).all() and kernel.values.shape == (2, 0, 8)


def test_dtypes_ragged_strided(both, generator, dtype):
    x = torch.randn(3, 70, 90, generator=generator).to(dtype).transpose(1, 2)[..., ::2]
    weights = torch.rand(90, 3, generator=generator).to(dtype).T
    index = kept(generator, 3, 60, 20)
    reference, kernel = both(merge_tokens, x, index, weights, [90, 60, 61], [20, 1, 7])
    assert torch.equal(reference.groups, kernel.groups)
    close(reference.values, kernel.values, dtype)
    assert (kernel.groups[1, 60:] == -1).all() and (kernel.values[1, 1:] == 0).all()


def test_equal_tokens_join_the_first_kept(both):
    _, kernel = both(merge_tokens, torch.ones(1, 9, 4), torch.tensor([[2, 5]]))
    assert kernel.groups.tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 0]]


def test_recycling_by_cell(both):
    # worked example B of the VFlowOpt notes: three cells, importance as weights, feature i is 10 i
    score = torch.tensor([[0.10, 0.40, 0.30, 0.20, 0.05, 0.60, 0.15, 1.0, 0.25, 0.35, 0.45, 1.0]])
    cells = torch.full((1, 12), -1)
    cells[0, [0, 1, 2, 3]], cells[0, [4, 8, 9]], cells[0, [6, 10]] = 0, 1, 2
    _, kernel = both(group_means, (10.0 * torch.arange(12))[None, :, None], cells, score, 4)
    torch.testing.assert_close(kernel.values[0, :, 0], torch.tensor([16.0, 82.3077, 90.0, 0.0]))


def test_weightless_cell_takes_the_plain_mean(both, generator):
    x = torch.randn(1, 6, 5, generator=generator)
    _, kernel = both(group_means, x, torch.zeros(1, 6, dtype=torch.long), torch.zeros(1, 6), 1)
    torch.testing.assert_close(kernel.values[0, 0], x[0].mean(0))


def test_means_are_those_of_core(both, generator):
    x, weights = torch.randn(200, 12, generator=generator), torch.rand(200, generator=generator).round(decimals=1)
    groups = torch.randint(-1, 9, (200,), generator=generator)
    for result in both(group_means, x[None], groups[None], weights[None], 9):
        torch.testing.assert_close(result.values[0], grouped_mean(x, groups, weights, 9))


def test_shares_are_those_of_the_means(both, generator):
    x, weights = torch.randn(2, 30, 5, generator=generator), torch.rand(2, 30, generator=generator)
    groups = torch.randint(-1, 4, (2, 30), generator=generator)
    weights[groups == 2] = 0
    shares = group_shares(groups, weights, 4)
    assert (shares[groups < 0] == 0).all()
    expected = torch.stack([(x * (shares * (groups == g))[..., None]).sum(1) for g in range(4)], 1)
    for found in both(group_means, x, groups, weights, 4):
        torch.testing.assert_close(found.values, expected)


def test_the_published_form_gives_the_same(both, generator):
    x, index = torch.randn(2, 50, 12, generator=generator), kept(generator, 2, 50, 7)
    for found in both(merge_tokens, x, index):
        torch.testing.assert_close(found.values, merge_published(x, index))


@pytest.mark.parametrize(("m", "k"), [(1, 1), (3, 17), (577, 58), (0, 2), (5, 0)])
def test_nearest_targets(both, generator, m, k):
    rows, targets = torch.randn(2, m, 24, generator=generator), torch.randn(2, k, 24, generator=generator)
    reference, kernel = both(assign_nearest, rows, targets)
    assert torch.equal(reference, kernel) and kernel.shape == (2, m)
    if m and k:
        cosine = torch.nn.functional.cosine_similarity(rows[:, :, None], targets[:, None], dim=-1)
        assert torch.equal(kernel, cosine.argmax(2))


def test_nearest_of_a_ragged_batch(both, generator, dtype):
    rows = torch.randn(3, 70, 90, generator=generator).to(dtype).transpose(1, 2)[..., ::2]
    targets = torch.randn(3, 35, 20, generator=generator).to(dtype).transpose(1, 2)
    reference, kernel = both(assign_nearest, rows, targets, [90, 60, 5], [20, 1, 0])
    assert torch.equal(reference, kernel)
    assert (kernel[1, :60] == 0).all() and (kernel[1, 60:] == -1).all() and (kernel[2] == -1).all()


def test_ties_zeros_and_lengths_of_targets(both):
    rows = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]])
    targets = torch.tensor([[[0.0, 0.5], [0.5, 0.0], [9.0, 0.0]]])
    for found in both(assign_nearest, rows, targets):
        assert found.tolist() == [[1, 0, 0]]  # the lower of equal cosines, 0 with everything for a zero row
    for found in both(assign_nearest, rows, targets, normalized=True):
        assert found.tolist() == [[2, 0, 0]]  # lengths as given


# +-1 in 1, 4 or 16 places: lengths are powers of two and all cosines exact, so even ties must agree


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_indices_agree(both, data):
    n = data.draw(st.integers(1, 40))
    index = torch.tensor([sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))])
    reference, kernel = both(merge_tokens, exact_rows(data, n)[None], index)
    assert torch.equal(reference.groups, kernel.groups)
