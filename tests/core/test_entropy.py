import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.statistics.entropy import patch_entropy

from support.oracles import modest


def normalised(levels, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):
    m, s = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    return ((levels / 255 - m) / s)[None]


@modest
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 3))
def test_matches_a_counted_histogram(seed, rows, cols):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (3, rows * 4 + 1, cols * 4), generator=generator).float()
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    found = patch_entropy(normalised(levels, mean, std), 4, "paper", mean, std)
    assert found.shape == (1, rows, cols)
    grey = (levels.sum(0) / 3).round()[:4, :4].reshape(-1).tolist()
    expected = -sum(grey.count(g) / 16 * math.log2(grey.count(g) / 16) for g in set(grey))
    assert float(found[0, 0, 0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", ["paper", "wrapped"])
def test_flat_patches_have_no_entropy_and_two_halves_one_bit(mode):
    levels = torch.zeros(3, 14, 28)
    levels[:, :7, 14:] = 200.0
    found = patch_entropy(normalised(levels), 14, mode)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0]]]))


def test_wrapped_levels_confuse_dark_with_bright():
    levels = torch.zeros(3, 2, 2)
    levels[:, 0] = 128.0
    image = normalised(levels)
    assert float(patch_entropy(image, 2, "paper")) == 1.0
    # 0 becomes -255, which wraps to 1; 128 becomes 1
    assert float(patch_entropy(image, 2, "wrapped")) == 0.0
