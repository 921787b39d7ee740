import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtc.kernels import topk_select

SIZES = [1, 2, 3, 17, 577, 2879]


def same(reference, kernel):
    assert torch.equal(reference.index, kernel.index)
    assert torch.equal(reference.count, kernel.count)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_sizes(both, generator, n, share):
    scores = torch.randn(1, n, generator=generator)
    reference, kernel = both(topk_select, scores, round(share * n))
    same(reference, kernel)
    assert kernel.index[0].tolist() == scores[0].topk(round(share * n)).indices.sort().values.tolist()


def test_one_of_many(both, generator):
    scores = torch.randn(2, 577, generator=generator)
    _, kernel = both(topk_select, scores, 1)
    assert kernel.index[:, 0].tolist() == scores.argmax(1).tolist()


def test_dtypes_ragged_strided(both, generator, dtype):
    scores = torch.randn(40, 3, generator=generator).to(dtype).T  # columns are 3 apart
    for k in ([0, 40, 3], torch.tensor([5, 2, 9])):
        reference, kernel = both(topk_select, scores, k, [40, 7, 1])
        same(reference, kernel)
        assert kernel.index.shape == (3, 40 if isinstance(k, list) else 5)
        assert kernel.count.tolist() == ([0, 7, 1] if isinstance(k, list) else [5, 2, 1])
        assert (kernel.index[2, 1:] == -1).all()


def test_ties_go_to_the_lower_column(both):
    _, kernel = both(topk_select, torch.tensor([[1.0, 2.0, 1.0, 1.0, 2.0], [0.0, -0.0, 0.0, -0.0, -1.0]]), 3)
    assert kernel.index.tolist() == [[0, 1, 4], [0, 1, 2]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_indices_agree(both, data):
    n = data.draw(st.integers(1, 40))
    few = st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38])
    scores = torch.tensor([data.draw(st.lists(st.floats(width=32) | few, min_size=n, max_size=n)) for _ in range(2)])
    k = [data.draw(st.integers(0, n + 2)) for _ in range(2)]
    reference, kernel = both(topk_select, scores, k, [n, data.draw(st.integers(0, n))])
    same(reference, kernel)


@pytest.mark.parametrize("bad", [True, 1.5, [1], -1, torch.tensor([0.5, 1.0]), torch.ones(3, dtype=torch.int64)])
def test_counts_are_checked(bad):
    with pytest.raises((TypeError, ValueError), match="k"):
        topk_select(torch.zeros(2, 4), bad)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="scores has shape"):
        topk_select(torch.zeros(4), 1)
