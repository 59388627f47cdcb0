"""On an accelerator: trees generate the plain text there, and in float64 the text of the CPU."""

import pytest
import tiny
import torch
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
SETTINGS = [{"temperature": 0.0}, {"temperature": 0.8, "top_k": 9}, {"temperature": 1.2, "top_p": 0.9}]


def generated(device, dtype, requests, *, drafts, prepares=False):
    target, drafter = (tiny.llama(noise=noise, dtype=dtype, device=device) for noise in (0.0, 0.02))
    selector = Selector(ConfidenceScorer(), LIMITS)
    decoder = tiny.decoder(target, drafter, selector) if drafts else tiny.decoder(target)
    if prepares:
        decoder.prepare(len(requests))
    return [text.token_ids for text in decoder.generate(requests)[0]]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_trees_generate_the_plain_text(settings, batch, dtype):
    requests = tiny.requests(batch, **settings)
    plain = generated("cuda", dtype, requests, drafts=False)
    assert generated("cuda", dtype, requests, drafts=True) == plain
    if dtype == torch.float64:
        assert generated("cpu", dtype, requests, drafts=False) == plain


@pytest.mark.parametrize("drafts", [False, True])
def test_graphs_that_are_captured_ahead_generate_the_same_texts(drafts):
    requests = tiny.requests(4, 0.8)
    ahead, met = (generated("cuda", torch.float32, requests, drafts=drafts, prepares=first) for first in (True, False))
    assert ahead == met
