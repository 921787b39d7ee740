import pytest
import torch

from vtc.core.layout import Packing
from vtc.kernels import pack_mask, pack_rows


def packing(generator, batch, length):
    keep = torch.rand(batch, length, generator=generator) > 0.5
    keep[:, -1] = True
    return Packing.build(keep)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 577, 2879])
def test_sizes(both, generator, n):
    p = packing(generator, 2, n)
    x, ids = torch.randn(2, n, 33, generator=generator), torch.arange(2 * n).view(2, n)
    reference, kernel = both(pack_rows, [x, ids], p.index)
    for a, b, source in zip(reference, kernel, (x, ids), strict=True):
        assert torch.equal(a, b) and torch.equal(b, p.take(source))


def test_everything_a_layer_takes_along(both, generator, dtype):
    length, p = 17, packing(generator, 3, 17)
    tensors = [
        torch.randn(3, 40, length, generator=generator).to(dtype).transpose(1, 2),  # hidden rows, strided
        torch.randn(1, length, 8, generator=generator).to(dtype),  # rotary table of the batch
        torch.randn(3, 1, length, 6, generator=generator).to(dtype),  # M-RoPE table
        torch.randint(0, 99, (3, 3, length), generator=generator),  # M-RoPE ids
        torch.rand(3, length, generator=generator) > 0.5,  # 2-D mask
        torch.randn(3, length, 2, 5, generator=generator)[..., ::2],  # two trailing axes
    ]
    dims = [1, 1, 2, 2, 1, 1]
    for a, b in zip(*both(pack_rows, tensors, p.index, dims), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


@pytest.mark.parametrize("kept", [0, 1])
def test_few(both, kept):
    reference, kernel = both(pack_rows, [torch.randn(2, 5, 3)], torch.full((2, kept), 4))
    assert kernel[0].shape == (2, kept, 3) and torch.equal(reference[0], kernel[0])


@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "batch", "past"), [(1, 1, 0), (2, 3, 5)])
def test_masks(both, generator, kind, heads, batch, past):
    p = packing(generator, 3, 17)
    mask = torch.randn(batch, heads, past + 17, 17, generator=generator).mT
    mask = mask > 0 if kind == torch.bool else mask.to(kind)
    for valid in (None, p.valid):
        reference, kernel = both(pack_mask, mask, p.index, valid, past)
        assert kernel.dtype == kind and torch.equal(reference, kernel)
    assert torch.equal(kernel, p.take_mask(mask, past))


def test_shapes_are_checked():
    index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="no batch of 2"):
        pack_rows([torch.zeros(3, 4, 5)], index)
    with pytest.raises(ValueError, match="dims has 1 entries for 2"):
        pack_rows([torch.zeros(2, 4)] * 2, index, [1])
    with pytest.raises(ValueError, match="mask has shape"):
        pack_mask(torch.zeros(2, 1, 4, 5), index)
