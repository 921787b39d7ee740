import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vtc.core.diversity import greedy_spread, most_isolated, unit_rows

from support.oracles import diversity as oracle
from support.oracles import modest

OBJECTIVES = ["max_sum", "k_center"]
WORKED = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8], [-0.6, 0.8]])


def sample(seed, n, d):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("objective", "picks"), [("max_sum", [0, 2, 3]), ("k_center", [0, 2, 1])])
def test_worked_example(objective, picks):
    assert greedy_spread(unit_rows(WORKED), 3, 0, objective).order.tolist() == picks


@modest
@given(st.integers(0, 999), st.integers(2, 41), st.integers(2, 17), st.sampled_from(OBJECTIVES), st.booleans())
def test_order_matches_the_brute_force(seed, n, d, objective, centered):
    x = sample(seed, n, d)
    k = 1 + seed % n
    reference = oracle.unit(x.numpy(), centered)
    order, gap = oracle.greedy(reference, k, seed % n, objective)
    assume(gap > 1e-4)
    found = greedy_spread(unit_rows(x.float(), centered), k, seed % n, objective)
    assert found.order.tolist() == order


@modest
@given(st.integers(0, 999), st.integers(2, 60), st.integers(1, 9))
def test_most_isolated_matches_the_brute_force_in_any_blocks(seed, n, block):
    x = unit_rows(sample(seed, n, 5))
    assert int(most_isolated(x, block)) == oracle.isolated(x.numpy())


@modest
@given(st.integers(0, 999), st.integers(3, 50), st.sampled_from(OBJECTIVES))
def test_picks_are_a_prefix_of_longer_picks(seed, n, objective):
    x = unit_rows(sample(seed, n, 6))
    long = greedy_spread(x, n, 0, objective).order
    assert torch.equal(greedy_spread(x, n // 2 + 1, 0, objective).order, long[: n // 2 + 1])
    assert sorted(long.tolist()) == list(range(n))


@modest
@given(st.integers(0, 999), st.sampled_from(OBJECTIVES))
def test_scaling_rows_and_rotating_all_change_nothing(seed, objective):
    x = sample(seed, 31, 7)
    turn = torch.linalg.qr(sample(seed + 1, 7, 7)).Q
    scale = 0.1 + sample(seed + 2, 31, 1).abs()
    order = greedy_spread(unit_rows(x), 12, 3, objective).order
    assert torch.equal(greedy_spread(unit_rows(x * scale @ turn), 12, 3, objective).order, order)


def test_similarities_of_k_center_picks_never_fall():
    values = greedy_spread(unit_rows(sample(0, 97, 5)), 60, 0, "k_center").values
    assert bool((values.diff() >= -1e-12).all())


def test_k_center_takes_distinct_rows_before_duplicates():
    x = unit_rows(sample(1, 8, 6).repeat(3, 1))
    order = greedy_spread(x, 8, 0, "k_center").order
    assert sorted((order % 8).tolist()) == list(range(8))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_rows_go_by_index(objective):
    assert greedy_spread(unit_rows(torch.full((9, 4), 2.0)), 4, 5, objective).order.tolist() == [5, 0, 1, 2]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_small_cache_gives_the_same_order(objective, monkeypatch):
    x = unit_rows(sample(3, 300, 8))
    whole = greedy_spread(x, 150, 0, objective).order
    monkeypatch.setattr("vtc.kernels.greedy.gram.CACHE_BYTES", 1)
    assert torch.equal(greedy_spread(x, 150, 0, objective).order, whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_do_not_overflow(dtype):
    x = (sample(4, 20, 4096) * 1e4).to(dtype)
    norm = unit_rows(x).norm(dim=1)
    torch.testing.assert_close(norm, torch.ones(20), atol=1e-5, rtol=0)


def test_huge_bfloat16_rows_keep_their_direction():
    x = torch.tensor([[3e38, 0.0], [3e38, 3e38]], dtype=torch.bfloat16)
    torch.testing.assert_close(unit_rows(x), torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


def test_zero_rows_stay_zero():
    assert unit_rows(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_rows_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or Inf"):
        unit_rows(torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("k", [0, 5])
def test_count_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k}"):
        greedy_spread(unit_rows(WORKED), k, 0, "max_sum")
