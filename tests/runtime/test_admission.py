"""Requests in caches that do not hold all of them at once, as on a device: who joins, who waits, who is refused."""

import numpy as np
import tiny
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.engines.transformers.pages import PAGE
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

POSITIONS = 5 * CHUNK
LIMITS = TreeLimits(max_depth=4, width=4, frontier=16, budget=60)


def model(num_rows, noise=0.0):
    """With a cache of so many rows."""
    network = tiny.llama(noise=noise, positions=POSITIONS)
    sized = StaticModel(network.model, network.vocabulary_size)
    sized.size(num_rows)
    return sized


def decoder_of(target_rows, drafter_rows):
    """With trees."""
    return tiny.decoder(model(target_rows), model(drafter_rows, 0.02), Selector(ConfidenceScorer(), LIMITS))


def request(num_prompt, max_tokens, seed):
    generator = np.random.default_rng(seed)
    prompt_ids = generator.integers(tiny.VOCABULARY_SIZE, size=num_prompt).tolist()
    return Request(prompt_ids, max_tokens, Sampling(0.8, seed=seed))


PLAIN = tiny.decoder(tiny.llama(positions=POSITIONS))


def plain(request):
    return PLAIN.generate([request])[0][0].token_ids


def test_a_text_near_its_end_that_is_padded_to_a_neighbours_prompt_stays_in_its_own_room():
    ending, coming = request(10, PAGE - 10, 1), request(CHUNK + 44, 20, 2)
    decoder = decoder_of(20 * PAGE, 20 * PAGE)
    streams, batch = decoder.open_streams([ending, coming]), decoder.open_batch()
    batch.join(ending, streams[0])
    while streams[0].remaining > 16:
        batch.step()
    batch.join(coming, streams[1])
    while len(batch):
        batch.step()
    assert [stream.token_ids for stream in streams] == [plain(ending), plain(coming)]
