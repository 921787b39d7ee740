import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_merge_kernel import exact_rows
from vtc.kernels import greedy_diverse, greedy_triton

# sums of up to 100 cosines, each rounded to fp32 in another order
VALUES = dict(rtol=1e-5, atol=2e-5)


def first(*columns):
    return torch.tensor(columns)


@pytest.mark.parametrize("objective", ["max_sum", "max_min"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (3, 1), (17, 0), (17, 17), (577, 58), (2879, 12)])
def test_sizes(both, generator, objective, n, k):
    x = torch.randn(1, n, 24, generator=generator)
    reference, kernel = both(greedy_diverse, x, k, first(n // 2), objective=objective)
    assert torch.equal(reference.order, kernel.order) and torch.equal(reference.count, kernel.count)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)
    assert kernel.order.shape == (1, k) and len(set(kernel.order[0].tolist())) == k


@pytest.mark.parametrize("objective", ["max_sum", "max_min"])
def test_panels_of_candidates_change_nothing(both, generator, objective, monkeypatch):
    x = torch.randn(2, 90, 16, generator=generator) + torch.randn(16, generator=generator)
    monkeypatch.setattr(greedy_triton, "PANEL_BYTES", 0)
    monkeypatch.setattr(greedy_triton, "SMALLEST_PANEL", 16)
    assert greedy_triton.panel_rows(2, 90) == 16
    reference, kernel = both(greedy_diverse, x, [20, 31], first(3, 4), [90, 77], objective=objective)
    assert torch.equal(reference.order, kernel.order)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)


def test_dtypes_ragged_strided(both, generator, dtype):
    x = torch.randn(3, 40, 90, generator=generator).to(dtype).transpose(1, 2)[..., ::2]
    free = torch.rand(3, 90, generator=generator) > 0.3
    reference, kernel = both(
        greedy_diverse, x, torch.tensor([9, 90, 1]), first(0, 5, 2), [90, 30, 3], candidates=free, width=40
    )
    assert torch.equal(reference.order, kernel.order) and torch.equal(reference.count, kernel.count)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)
    picks = kernel.order[1][kernel.order[1] >= 0]
    assert len(picks) == kernel.count[1] and (picks < 30).all() and free[1, picks[1:]].all()


def test_worked_example(both):
    # ToDRE notes, section 10: a sum may pick an exact duplicate, a maximum does not before all others are used
    x = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8], [-0.6, 0.8]]])
    assert both(greedy_diverse, x, 3, first(0))[1].order.tolist() == [[0, 2, 3]]
    assert both(greedy_diverse, x, 3, first(0), objective="max_min")[1].order.tolist() == [[0, 2, 1]]


def test_equal_tokens_are_picked_in_order(both):
    for objective in ("max_sum", "max_min"):
        _, kernel = both(greedy_diverse, torch.ones(1, 9, 4), 5, first(3), objective=objective)
        assert kernel.order.tolist() == [[3, 0, 1, 2, 4]]


def test_zero_rows_have_cosine_zero(both):
    x = torch.eye(3)[None] * torch.tensor([1.0, 0.0, 1.0])[:, None]
    reference, kernel = both(greedy_diverse, x, 3, first(0))
    assert kernel.order.tolist() == reference.order.tolist() == [[0, 1, 2]]


def test_non_finite_features_stay_inside(both):
    _, kernel = both(greedy_diverse, torch.full((1, 20, 4), float("nan")), 5, first(0))
    assert ((kernel.order >= 0) & (kernel.order < 20)).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), objective=st.sampled_from(["max_sum", "max_min"]))
def test_indices_agree(both, data, objective):
    n = data.draw(st.integers(1, 40))
    x = exact_rows(data, n)[None]
    k, start = data.draw(st.integers(1, n)), data.draw(st.integers(0, n - 1))
    reference, kernel = both(greedy_diverse, x, k, first(start), objective=objective)
    assert torch.equal(reference.order, kernel.order)
    assert torch.equal(reference.value, kernel.value)


def test_unknown_objective():
    with pytest.raises(ValueError, match="max_sum, max_min"):
        greedy_diverse(torch.zeros(1, 2, 2), 1, first(0), objective="max")
