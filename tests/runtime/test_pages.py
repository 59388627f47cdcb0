"""Attention over pages is attention to the rows that they hold, in the order of the text."""

import pytest
import torch
from packed import packed
from torch.nn.functional import scaled_dot_product_attention
from treewright.runtime.engines.transformers.pages import PAGE, dense_attention, kernels, store_rows
from treewright.runtime.engines.transformers.scores import scored_attention

TOLERANCE = {"rtol": 0, "atol": 1e-13}  # both sides are the same float64 sums in another order
SCALE = 0.3
# Rows of the trees behind texts of so many committed rows: an empty text, ends on borders of pages and beside them.
TEXTS = [([5, 2, 1], [200, 0, 7]), ([20, 7], [PAGE, PAGE - 1]), ([3], [0]), ([PAGE + 9, 1], [2 * PAGE - 1, 1])]


@pytest.mark.parametrize(("counts", "lengths"), TEXTS, ids=str)
@pytest.mark.parametrize(("num_heads", "num_groups"), [(4, 4), (4, 2), (3, 1)])
def test_rows_attend_to_their_texts_and_to_their_trees(counts, lengths, num_heads, num_groups):
    given = packed(counts, lengths, num_heads=num_heads, num_groups=num_groups, size=8, bit=4)
    query, keys, values, mask = given.gathered
    expected = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=SCALE, enable_gqa=True)
    attended = dense_attention(given.query, given.keys, given.values, given.rows, scale=SCALE, bit=4)
    torch.testing.assert_close(attended, expected[:, :, 0], **TOLERANCE)


@pytest.mark.parametrize("window", [1, 3, PAGE, 1000])
def test_a_window_hides_what_is_so_many_positions_before(window):
    given = packed([9, 4, 1], [150, 2, 0], num_heads=4, num_groups=2, size=8, window=window)
    query, keys, values, mask = given.gathered
    expected = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=SCALE, enable_gqa=True)
    attended = dense_attention(given.query, given.keys, given.values, given.rows, scale=SCALE, window=window)
    torch.testing.assert_close(attended, expected[:, :, 0], **TOLERANCE)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 3.0, 0.0], dtype=torch.float64)], ids=["", "sinks"])
def test_scores_are_capped_and_sinks_take_their_share(softcap, sinks):
    options = {"scale": SCALE, "softcap": softcap, "sinks": sinks}
    given = packed([9, 4, 1], [150, 2, 0], num_heads=4, num_groups=2, size=8, window=20)
    attended = dense_attention(given.query, given.keys, given.values, given.rows, window=20, **options)
    torch.testing.assert_close(attended, scored_attention(*given.gathered, **options)[:, 0], **TOLERANCE)


@pytest.mark.parametrize("sinks", [None, torch.zeros(4, dtype=torch.float64)], ids=["", "sinks"])
def test_a_row_that_sees_nothing_gets_nothing(sinks):
    given = packed([3, 2], [70, 0], num_heads=4, num_groups=2, size=8)
    far = given.rows._replace(positions=given.rows.positions + 1000, seen=torch.zeros_like(given.rows.seen))
    attended = dense_attention(given.query, given.keys, given.values, far, scale=SCALE, window=3, sinks=sinks)
    assert attended.shape == (5, 4, 8) and not attended.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    """So the result is that of float64 over the same numbers, rounded once."""
    given = packed([9, 4, 1], [150, 2, 0], num_heads=4, num_groups=2, size=8).to("cpu", dtype)
    attended = dense_attention(given.query, given.keys, given.values, given.rows, scale=SCALE)
    assert attended.dtype == dtype
    wide = given.to("cpu", torch.float64)
    exact = dense_attention(wide.query, wide.keys, wide.values, wide.rows, scale=SCALE)
    torch.testing.assert_close(attended.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_rows_are_stored_where_they_belong_and_nothing_else_changes():
    keys, values = torch.zeros(2, 3 * PAGE, 2, 4)
    new_keys, new_values = torch.arange(2 * 2 * 5 * 4.0).view(2, 2, 5, 4) + 1
    at = torch.tensor([PAGE, 7, 3 * PAGE - 1, 0, 8])
    store_rows(keys, values, new_keys, new_values, at)
    for storage, new in ((keys, new_keys), (values, new_values)):
        assert torch.equal(storage[at].transpose(0, 1), new)
        assert torch.count_nonzero(storage) == new.numel()


def test_without_a_device_and_in_float64_plain_operations_attend():
    for dtype, device in ((torch.float32, "cpu"), (torch.float64, "cuda")):
        chosen = kernels(dtype, torch.device(device))
        assert (chosen.attend, chosen.store, chosen.are_fused) == (dense_attention, store_rows, False)
