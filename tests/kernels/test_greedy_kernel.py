import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtc.kernels import greedy_diverse
from vtc.kernels.greedy import triton as greedy_triton
from vtc.kernels.greedy.naive import greedy_published

from support.rows import exact_rows

# sums of up to 100 cosines, each rounded to fp32 in another order
VALUES = dict(rtol=1e-5, atol=2e-5)


def first(*columns):
    return torch.tensor(columns)


@pytest.mark.parametrize("objective", ["max_sum", "k_center"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (3, 1), (17, 0), (17, 17), (577, 58), (2879, 12)])
def test_sizes(both, generator, objective, n, k):
    x = torch.randn(1, n, 24, generator=generator)
    reference, kernel = both(greedy_diverse, x, k, first(n // 2), objective=objective)
    assert torch.equal(reference.order, kernel.order) and torch.equal(reference.count, kernel.count)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)
    torch.testing.assert_close(reference.final, kernel.final, **VALUES)
    assert kernel.order.shape == (1, k) and len(set(kernel.order[0].tolist())) == k


@pytest.mark.parametrize("objective", ["max_sum", "k_center"])
def test_panels_of_candidates_change_nothing(both, generator, objective, monkeypatch):
    x = torch.randn(2, 90, 16, generator=generator) + torch.randn(16, generator=generator)
    monkeypatch.setattr(greedy_triton, "PANEL_BYTES", 0)
    monkeypatch.setattr(greedy_triton, "SMALLEST_PANEL", 16)
    assert greedy_triton.panel_rows(2, 90) == 16
    reference, kernel = both(greedy_diverse, x, [20, 31], first(3, 4), [90, 77], objective=objective)
    assert torch.equal(reference.order, kernel.order)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)
    torch.testing.assert_close(reference.final, kernel.final, **VALUES)


def test_dtypes_ragged_strided(both, generator, dtype):
    x = torch.randn(3, 40, 90, generator=generator).to(dtype).transpose(1, 2)[..., ::2]
    reference, kernel = both(greedy_diverse, x, torch.tensor([9, 90, 1]), first(0, 5, 2), [90, 30, 3])
    assert torch.equal(reference.order, kernel.order) and torch.equal(reference.count, kernel.count)
    torch.testing.assert_close(reference.value, kernel.value, **VALUES)
    picks = kernel.order[1][kernel.order[1] >= 0]
    assert sorted(picks.tolist()) == list(range(30)) and kernel.count.tolist() == [9, 30, 1]
    torch.testing.assert_close(reference.final, kernel.final, **VALUES)
    assert (kernel.final[2] == torch.inf).sum() == 88  # the pick, and all but three columns


def test_final_states_are_similarities_to_all_picks(both, generator):
    x = torch.randn(1, 40, 8, generator=generator)
    unit = torch.nn.functional.normalize(x[0], dim=-1)
    for objective, join in (("max_sum", lambda s: s.sum(1)), ("k_center", lambda s: s.amax(1))):
        for found in both(greedy_diverse, x, 6, first(4), objective=objective):
            expected = join(unit @ unit[found.order[0]].T).index_fill(0, found.order[0], torch.inf)
            torch.testing.assert_close(found.final[0], expected, **VALUES)


@pytest.mark.parametrize("objective", ["max_sum", "k_center"])
def test_the_published_form_picks_the_same(both, generator, objective):
    x = torch.randn(60, 8, generator=generator)
    expected = greedy_published(x, 15, 7, objective == "max_sum").tolist()
    for found in both(greedy_diverse, x[None], 15, first(7), objective=objective):
        assert found.order[0].tolist() == expected


def test_normalized_rows_are_taken_as_they_are(both, generator):
    unit = torch.nn.functional.normalize(torch.randn(1, 50, 8, generator=generator), dim=-1)
    for plain, taken in zip(
        both(greedy_diverse, unit, 9, first(0)), both(greedy_diverse, unit, 9, first(0), normalized=True), strict=True
    ):
        assert torch.equal(plain.order, taken.order)
    # rows of length two have four times the cosine: nothing was divided
    for taken in both(greedy_diverse, 2 * unit, 9, first(0), normalized=True):
        torch.testing.assert_close(taken.value, 4 * plain.value, **VALUES)


def test_worked_example(both):
    # ToDRE notes, section 10: a sum may pick an exact duplicate, a maximum does not before all others are used
    x = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8], [-0.6, 0.8]]])
    assert both(greedy_diverse, x, 3, first(0))[1].order.tolist() == [[0, 2, 3]]
    assert both(greedy_diverse, x, 3, first(0), objective="k_center")[1].order.tolist() == [[0, 2, 1]]


def test_equal_tokens_are_picked_in_order(both):
    for objective in ("max_sum", "k_center"):
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
@given(data=st.data(), objective=st.sampled_from(["max_sum", "k_center"]))
def test_indices_agree(both, data, objective):
    n = data.draw(st.integers(1, 40))
    x = exact_rows(data, n)[None]
    k, start = data.draw(st.integers(1, n)), data.draw(st.integers(0, n - 1))
    reference, kernel = both(greedy_diverse, x, k, first(start), objective=objective)
    assert torch.equal(reference.order, kernel.order)
    assert torch.equal(reference.value, kernel.value)


def test_unknown_objective():
    with pytest.raises(ValueError, match="max_sum, k_center"):
        greedy_diverse(torch.zeros(1, 2, 2), 1, first(0), objective="max")
