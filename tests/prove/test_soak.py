"""Texts of all kinds come, go and are given up for minutes: each is its solo text, and nothing is left behind.

SOAK_SECONDS says for how long, 180 by default; `make soak` takes half an hour.
"""

import os
import resource
from time import monotonic

import numpy as np
import pytest
import tiny
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
POSITIONS = 3 * CHUNK
LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=12, ngrams=True)
KINDS = 200
MOST_AT_ONCE = 12
# Of the process at its largest, between the end of the first quarter and the end; kilobytes.
MOST_GROWTH = 16 << 10


def requests(generator):
    """Short, middling and long prompts under all sampling settings."""
    longest = [4, 40, 2 * CHUNK + 100]
    return [
        Request(
            generator.integers(tiny.VOCABULARY_SIZE, size=generator.integers(1, longest[number % 3])).tolist(),
            int(generator.integers(1, 80)),
            Sampling(
                temperature=float(generator.choice([0.0, 0.6, 1.0, 1.4])),
                top_k=int(generator.choice([0, 0, 9])),
                top_p=float(generator.choice([1.0, 1.0, 0.9])),
                seed=number,
            ),
            stop=("w7 w1",) if number % 5 == 0 else (),
        )
        for number in range(KINDS)
    ]


def test_texts_come_and_go_for_minutes():
    generator = np.random.default_rng(0)
    asked = requests(np.random.default_rng(2))
    plain = tiny.decoder(tiny.llama(positions=POSITIONS), end_tokens=frozenset({5}))
    solo = [plain.generate([request])[0][0] for request in asked]
    target, drafter = tiny.llama(positions=POSITIONS), tiny.llama(noise=0.02, positions=POSITIONS)
    selector = Selector(ConfidenceScorer(), LIMITS)
    decoder = tiny.decoder(target, drafter, selector, end_tokens=frozenset({5}))
    batch, running, memory = decoder.open_batch(), {}, []
    num_whole = num_given_up = num_steps = 0
    started = monotonic()
    while running or monotonic() - started < SECONDS:
        if monotonic() - started < SECONDS:
            for _ in range(generator.poisson(0.3)):
                if len(batch) < MOST_AT_ONCE:
                    number = int(generator.integers(KINDS))
                    (stream,) = decoder.open_streams([asked[number]])
                    batch.join(asked[number], stream)
                    running[stream] = number
        batch.step()
        num_steps += 1
        if running and generator.random() < 0.01:
            given_up = list(running)[generator.integers(len(running))]
            if given_up.remaining:
                batch.leave(given_up)
                assert given_up.token_ids == solo[running.pop(given_up)].token_ids[: len(given_up.token_ids)]
                num_given_up += 1
        for stream in [stream for stream in running if not stream.remaining]:
            expected = solo[running.pop(stream)]
            assert (stream.token_ids, stream.text, stream.finish_reason) == (
                expected.token_ids,
                expected.text,
                expected.finish_reason,
            )
            num_whole += 1
        if monotonic() - started > SECONDS / 4 and num_steps % 50 == 0:
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert len(batch) == len(running)
    print(f"{num_whole} texts whole, {num_given_up} given up, {num_steps} steps in {SECONDS:.0f} s")
    assert len(target.lengths) == len(drafter.lengths) == 0
    assert min(num_whole, num_given_up) > 0
    assert memory[-1] - memory[0] < MOST_GROWTH
