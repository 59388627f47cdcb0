"""Capped scores and sinks are those of the formula, head by head."""

import pytest
import torch
from treewright.runtime.engines.transformers.scores import scored_attention


def formula(query, key, value, hidden, softcap, sinks):
    attended = torch.zeros(2, 5, 4, 6, dtype=torch.float64)
    for text in range(2):
        for head in range(4):
            scores = query[text, head] @ key[text, head // 2].T / 3
            scores = softcap * torch.tanh(scores / softcap) if softcap else scores
            weights = scores.masked_fill(hidden[text, 0], -torch.inf).exp()
            total = weights.sum(dim=1, keepdim=True) + (sinks[head].exp() if sinks is not None else 0)
            attended[text, :, head] = weights / total @ value[text, head // 2]
    return attended


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("has_sinks", [True, False])
def test_scores_are_those_of_the_formula(softcap, has_sinks):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query, key, value = normal(2, 4, 5, 8), normal(2, 2, 9, 8), normal(2, 2, 9, 6)
    sinks = normal(4) if has_sinks else None
    causal = torch.ones(5, 9).tril(4) == 0
    hidden = causal | (torch.rand((2, 1, 5, 9), generator=generator) < 0.3)
    hidden[..., 0] = False
    additive = torch.zeros(hidden.shape, dtype=torch.float64).masked_fill(hidden, -torch.inf)
    for mask, its_hidden in ((additive, hidden), (~hidden, hidden), (None, causal.expand(2, 1, 5, 9))):
        found = scored_attention(query, key, value, mask, scale=1 / 3, softcap=softcap, sinks=sinks)
        expected = formula(query, key, value, its_hidden, softcap, sinks)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
