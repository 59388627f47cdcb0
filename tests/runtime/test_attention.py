"""Attention in two parts, committed rows and tree rows, is attention to both."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from treewright.runtime.engines.transformers.attention import dense_attention, flash_prefix, merged_attention

LENGTHS = [7, 0, 20]


def tensors(num_heads, num_groups, dtype=torch.float64):
    """Queries [3, H, 5, 8] and a storage [3, 30, G, 8] for keys and for values; 6 tree rows, of which some are seen."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, num_heads, 5, 8, generator=generator, dtype=dtype)
    keys, values = torch.randn(2, 3, 30, num_groups, 8, generator=generator, dtype=dtype)
    seen = torch.rand(3, 1, 5, 6, generator=generator) < 0.5
    seen[..., torch.arange(5), 1 + torch.arange(5)] = True
    return query, keys, values, seen


def whole_attention(query, keys, values, seen):
    mask = torch.zeros(3, 1, 5, 30, dtype=torch.bool)
    for text, length in enumerate(LENGTHS):
        mask[text, :, :, :length] = True
        mask[text, :, :, length : length + 6] = seen[text]
    storage = keys.transpose(1, 2), values.transpose(1, 2)
    return scaled_dot_product_attention(query, *storage, attn_mask=mask, enable_gqa=True)


@pytest.mark.parametrize(("num_heads", "num_groups"), [(4, 4), (4, 2), (3, 1)])
def test_two_parts_are_the_whole(num_heads, num_groups):
    given = tensors(num_heads, num_groups)
    merged = merged_attention(*given, torch.tensor(LENGTHS, dtype=torch.int32), 8**-0.5)
    torch.testing.assert_close(merged, whole_attention(*given), rtol=0, atol=1e-14)


def test_two_parts_in_half_precision_are_summed_in_float32():
    query, keys, values, seen = tensors(4, 2)
    exact = whole_attention(query, keys, values, seen)
    narrow = merged_attention(
        query.bfloat16(),
        keys.bfloat16(),
        values.bfloat16(),
        seen,
        torch.tensor(LENGTHS, dtype=torch.int32),
        8**-0.5,
    )
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.double(), exact, rtol=0, atol=0.03)


def test_a_row_that_sees_nothing_weighs_nothing():
    query, keys, values, _ = tensors(4, 2)
    output, sums = dense_attention(query, keys, values, torch.zeros(3, 1, 1, 30, dtype=torch.bool), 1.0)
    assert not output.any()
    assert sums.isneginf().all()


def test_the_flash_part_has_the_shapes_of_the_dense_one():
    """Without a device its kernel knows shapes alone."""
    query, keys, values, _ = (part.to("meta") for part in tensors(4, 2, torch.float16))
    lengths = torch.tensor(LENGTHS, dtype=torch.int32, device="meta")
    output, sums = flash_prefix(query, keys, values, lengths, 1.0)
    assert (output.shape, sums.shape) == ((3, 4, 5, 8), (3, 4, 5))
