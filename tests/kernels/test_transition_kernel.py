import pytest
import torch

from vtc.kernels import token_transition

CLOSE = dict(rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 577, 2879])
def test_sizes(both, generator, n):
    u, y = torch.randn(2, 1, n, 20, generator=generator)
    reference, kernel = both(token_transition, u, y)
    torch.testing.assert_close(reference, kernel, **CLOSE)


@pytest.mark.parametrize("direction", ["signed", "abs"])
def test_dtypes_strided_padding(both, generator, dtype, direction):
    u = torch.randn(3, 1100, 9, generator=generator).to(dtype).transpose(1, 2)
    y = torch.randn(3, 9, 2200, generator=generator).to(dtype)[..., ::2]
    valid = torch.rand(9, 3, generator=generator).T > 0.3
    valid[1] = False
    y = y.masked_fill(~valid[..., None], float("nan"))
    reference, kernel = both(token_transition, u, y, valid, direction)
    torch.testing.assert_close(reference, kernel, **CLOSE)
    assert kernel.dtype == torch.float32 and (kernel[~valid] == 0).all() and (kernel[valid] > 0).all()


def test_formula(both, generator):
    u, y = torch.randn(2, 1, 12, 8, generator=generator)
    turn = torch.exp(1 - torch.nn.functional.cosine_similarity(u, y, dim=-1))
    expected = y.norm(dim=-1) / u.norm(dim=-1) * turn / turn.sum()
    for result in both(token_transition, u, y):
        torch.testing.assert_close(result, expected, **CLOSE)


def test_half_precision_does_not_overflow(both):
    x = torch.full((1, 2, 4096), 200.0, dtype=torch.float16)
    for result in both(token_transition, x, x):
        torch.testing.assert_close(result, torch.full((1, 2), 0.5))


# numpy, of which the interpreter is made, warns; a GPU does not
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_tokens_have_no_ratio(both, generator):
    """One rule on every device: no number for a token without length, nothing lost for the others."""
    u, y = torch.randn(2, 2, 6, 4, generator=generator)
    u[:, 1], u[:, 2], y[:, 2], y[:, 3] = 0, 0, 0, 0
    for result in both(token_transition, u, y):
        assert (result[:, 1] == torch.inf).all() and result[:, 2].isnan().all() and (result[:, 3] == 0).all()
        # a zero vector stands at a right angle to everything in the sum of the row
        turn = torch.exp(1 - torch.nn.functional.cosine_similarity(u, y, dim=-1))
        expected = y[:, 4:].norm(dim=-1) / u[:, 4:].norm(dim=-1) * (turn / turn.sum(1, keepdim=True))[:, 4:]
        torch.testing.assert_close(result[:, 4:], expected, **CLOSE)
        assert turn[0, 1] == turn[0, 2] == torch.tensor(1.0).exp()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_tokens_that_are_padding_count_for_nothing(both):
    u, y = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    u[0, 2] = y[0, 2] = 1.0
    valid = torch.tensor([[False, False, True], [False, False, False]])
    for result in both(token_transition, u, y, valid):
        torch.testing.assert_close(result, torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))


def test_double_precision_stays():
    u, y = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    assert token_transition(u, y).dtype == torch.float64


def test_unknown_direction():
    with pytest.raises(ValueError, match="signed, abs"):
        token_transition(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), direction="up")
