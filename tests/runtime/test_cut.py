"""The cut of a batch against the plain one of a row, on the host and as a device makes it."""

import numpy as np
import pytest
import torch
from treewright.runtime.cut import Limits, cut, least_kept

CPU = torch.device("cpu")
SETTINGS = [(0, 0.9), (7, 1.0), (7, 0.5), (0, 0.01), (1, 1.0), (5000, 0.3), (2000, 0.95), (3, 1e-300)]


def plainly(row, top_k, top_p):
    """[V] by the definition, token by token."""
    kept = row >= row.sort(descending=True).values[min(top_k or len(row), len(row)) - 1]
    probs = row.masked_fill(~kept, -torch.inf).softmax(-1)
    better = torch.stack([probs[row > score].sum() for score in row])
    return kept & ((better < top_p) | (row == row.max()) | torch.tensor(top_p == 1))


def rows(size):
    """Of several kinds: flat, peaked, equal tokens, all tokens equal."""
    generator = torch.Generator().manual_seed(size)
    drawn = torch.randn(8, 2, size, generator=generator, dtype=torch.float64)
    drawn *= torch.tensor([0.1, 1.0, 3.0, 10.0, 0.1, 1.0, 3.0, 0.0])[:, None, None]
    drawn[4:6] = (3 * drawn[4:6]).round()
    return drawn


@pytest.mark.parametrize("size", [3, 40, 3000])
def test_every_text_is_cut_by_its_own_limits(size):
    scores = rows(size)
    limits = Limits.of([top_k for top_k, _ in SETTINGS], [top_p for _, top_p in SETTINGS], size, CPU)
    expected = torch.stack([torch.stack([plainly(r, *s) for r in t]) for t, s in zip(scores, SETTINGS, strict=True)])
    assert torch.equal(cut(scores, limits).isfinite(), expected)
    assert torch.equal(scores >= least_kept(scores, limits), expected)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_batch_of_one_setting_is_cut_alike(setting):
    scores = rows(3000).float()
    limits = Limits.of([setting[0]] * 8, [setting[1]] * 8, 3000, CPU)
    least = least_kept(scores, limits)
    assert torch.equal(cut(scores, limits), scores.masked_fill(scores < least, -torch.inf))
    for text in range(8):
        alone = cut(scores[text : text + 1, :1], limits.of_text(text))
        assert torch.equal(alone[0, 0], cut(scores, limits)[text, 0])


def test_tokens_as_good_as_the_last_of_a_top_k_share_its_mass():
    scores = torch.tensor([[3.0, 1.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    for top_p, kept in ((0.6, [True] + 5 * [False]), (0.7, [True] * 5 + [False])):
        limits = Limits.of([2], [top_p], 6, CPU)
        # The best has 0.65 of five tokens, and 0.88 of two.
        assert (scores >= least_kept(scores, limits))[0].tolist() == kept == cut(scores, limits)[0].isfinite().tolist()


def test_a_row_that_is_no_numbers_is_left_alone():
    scores = torch.full((1, 9), np.nan)
    assert cut(scores, Limits.of([0], [0.5], 9, CPU)).isnan().all()
