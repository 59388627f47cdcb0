"""How many tokens the caches of a pair hold: as many as are asked for, or as fit into a device's free memory."""

import numpy as np
import pytest
import tiny
import torch
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.transformers.page_tables import MOST_SLOTS
from treewright.runtime.engines.transformers.pages import PAGE
from treewright.runtime.engines.transformers.pair import CACHE_SHARE, size_caches
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.pair_config import PairConfig
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

# Of a token in two layers of 2 key heads of 8 numbers, and as many values, in float64: each model of the pair.
ROW_BYTES = 2 * 2 * 2 * 8 * 8


def pair_of(*positions):
    models = (tiny.llama(noise=0.02 * number, positions=count) for number, count in enumerate(positions))
    return [StaticModel(model.model, model.vocabulary_size) for model in models]


@pytest.fixture
def free_memory(monkeypatch):
    """Says how much memory of a device is free, which this machine need not have."""
    return lambda count: monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (count, 2 * count))


def test_a_cache_on_the_cpu_has_no_size():
    with pytest.raises(InputError, match=r"4096 sizes a device's cache, but pair\.device is cpu"):
        PairConfig(device="cpu", cache_tokens=4096)
    with pytest.raises(InputError, match=r"pair\.graphs is false, but on pair\.device cpu nothing is captured"):
        PairConfig(device="cpu", graphs=False)


def test_more_tokens_than_fit_are_refused_with_the_number_that_does(free_memory):
    models = pair_of(256, 256)
    assert [model.row_bytes for model in models] == [ROW_BYTES, ROW_BYTES]
    fitting = 5000
    free_memory(int(fitting * 2 * ROW_BYTES / CACHE_SHARE) + 1)
    with pytest.raises(InputError, match=r"pair\.cache_tokens 5001 take .* GiB free; ask for 5000 at most"):
        size_caches(models, fitting + 1)
    size_caches(models, fitting)
    assert [model.num_rows for model in models] == [79 * PAGE, 79 * PAGE]


def test_without_a_number_both_caches_share_most_of_the_free_memory(free_memory):
    models = pair_of(256, 256)
    free_memory(10 * 2**20)
    size_caches(models, 0)
    (num_rows,) = {model.num_rows for model in models}
    assert 0 <= num_rows - CACHE_SHARE * 10 * 2**20 / (2 * ROW_BYTES) < PAGE


def test_a_cache_is_no_larger_than_all_slots_could_fill(free_memory):
    models = pair_of(4, 2)
    free_memory(2**40)
    size_caches(models, 0)
    assert [model.num_rows for model in models] == [4 * MOST_SLOTS] * 2


def test_fewer_tokens_than_a_page_are_a_page(free_memory):
    models = pair_of(256)
    free_memory(2**30)
    size_caches(models, 1)
    models[0].open(0, 0)
    assert models[0].num_rows == PAGE


def test_a_drafter_holds_texts_that_are_longer_than_its_own_context(free_memory):
    prompt_ids = np.random.default_rng(0).integers(tiny.VOCABULARY_SIZE, size=1600).tolist()
    request = Request(prompt_ids, 8, Sampling(0.8, seed=1))
    models = pair_of(2000, 16)
    free_memory(2**24)
    size_caches(models, 0)
    selector = Selector(ConfidenceScorer(), TreeLimits(max_depth=4, width=3, frontier=4, budget=10))
    (drafted,), _ = tiny.decoder(models[0], models[1], selector).generate([request])
    (plain,), _ = tiny.decoder(tiny.llama(positions=2000)).generate([request])
    assert drafted.token_ids == plain.token_ids


def test_a_model_that_was_released_has_its_size_again_when_it_is_opened():
    model = StaticModel(tiny.llama().model, tiny.VOCABULARY_SIZE)
    model.size(640)
    model.release()
    assert model.num_rows == 0
    model.open(1, 20)
    assert model.num_rows == 640
