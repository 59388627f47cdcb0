"""Logits that a request processes by its text: trees stay exact, and a decoder needs no tokenizer for them."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from failing import FailingModel
from treewright.controller.contract import COUPLED, FIXED, IID_PATHS
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.log_probs import TextLogProbs
from treewright.runtime.processing import TextProcessor, processed
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)


class Hashed:
    """Favours tokens, and bans others, by a number of the whole text; counts what it was asked."""

    def __init__(self, number):
        self.number = number
        self.num_asked = {True: 0, False: 0}

    def __call__(self, text, paths, logits, *, of_target):
        self.num_asked[of_target] += len(paths)
        generated = np.concatenate((np.tile(np.array(text, dtype=np.int64), (len(paths), 1)), paths), axis=1)
        weights = np.arange(1, generated.shape[1] + 1)
        keys = torch.from_numpy((np.maximum(generated, 0) * weights).sum(axis=1)) * 31 + self.number
        tokens = torch.arange(logits.shape[1])
        mixed = (keys[:, None] * 7919 + tokens * 104729) % 101
        return torch.where(mixed < 20, -torch.inf, logits + mixed / 50.0)


def requests(temperature, batch=4):
    """All but the second process their logits."""
    return [
        request if row == 1 else replace(request, processor=Hashed(row))
        for row, request in enumerate(tiny.requests(batch, temperature))
    ]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
def test_trees_generate_the_plain_processed_text(temperature, batch, scheme):
    plain, _ = tiny.decoder(tiny.llama()).generate(requests(temperature, batch))
    asked = requests(temperature, batch)
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(ConfidenceScorer(), LIMITS), scheme)
    trees, stats = decoder.generate(asked)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.block_efficiency > 1.2
    processors = [request.processor for request in asked if isinstance(request.processor, Hashed)]
    assert len(processors) == batch - (batch > 1)
    assert all(count > 0 for processor in processors for count in processor.num_asked.values())
    unprocessed, _ = tiny.decoder(tiny.llama()).generate(tiny.requests(batch, temperature))
    differ = [text.token_ids != other.token_ids for text, other in zip(plain, unprocessed, strict=True)]
    assert differ == [row != 1 for row in range(batch)]


def test_the_walk_through_sampled_trees_generates_it_too():
    plain, _ = tiny.decoder(tiny.llama()).generate(requests(0.9))
    shape = sampled_shape(IID_PATHS, 3, 1, 2)
    trees, stats = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), shape, IID_PATHS).generate(requests(0.9))
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_accepted > 0


def test_texts_that_are_decoded_alone_after_a_failure_are_processed_as_before():
    plain, _ = tiny.decoder(tiny.llama()).generate(requests(0.9))
    target = FailingModel(tiny.llama(), crowded=4, step_rows=CHUNK + 1 + LIMITS.budget)
    decoder = tiny.decoder(
        target, LanguageModelDrafter(tiny.llama(noise=0.02), COUPLED), Selector(ConfidenceScorer(), LIMITS)
    )
    trees, _ = decoder.generate(requests(0.9))
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]


def test_the_selectors_history_is_of_the_processed_rows():
    """At T = 0 with all but one token banned, nothing surprises."""

    class Only:
        def __call__(self, text, paths, logits, *, of_target):
            lengths = torch.from_numpy(len(text) + (paths >= 0).sum(axis=1))
            allowed = torch.arange(logits.shape[1]) == lengths[:, None] % 40
            return torch.where(allowed, logits, -torch.inf)

    class Reading(ConfidenceScorer):
        reads_history = True

    request = replace(tiny.requests(1, 0.8)[0], processor=Only())
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(Reading(), LIMITS))
    streams = decoder.open_streams([request])
    contexts = [record.context.history[0] for record in decoder.steps([request], streams)]
    assert streams[0].token_ids == list(range(24))
    np.testing.assert_array_equal(contexts[-1][:2], 0.0)


def test_a_decoder_without_detokeniser_decodes_into_sinks():
    class Counting:
        def __init__(self):
            self.token_ids = []
            self.error = None
            self.log_probs: TextLogProbs | None = None

        @property
        def remaining(self):
            return 0 if self.error else 24 - len(self.token_ids)

        def append(self, tokens):
            taken = tokens[: self.remaining]
            self.token_ids += taken
            return len(taken)

        def fail(self, error):
            self.error = error

    asked, sinks = requests(0.9), [Counting() for _ in range(4)]
    decoder = Decoder(Target(tiny.llama()), WalkVerifier(), None, frozenset())
    assert sum(int(record.num_emitted.sum()) for record in decoder.steps(asked, sinks)) == 4 * 24
    plain, _ = tiny.decoder(tiny.llama()).generate(requests(0.9))
    assert [sink.token_ids for sink in sinks] == [text.token_ids for text in plain]


def test_what_a_processor_adds_is_not_rounded_to_the_models_number_format():
    tree = DraftTree.from_roots(np.array([1]))
    narrow = torch.full((1, 1, tiny.VOCABULARY_SIZE), 8.0, dtype=torch.bfloat16)

    def little(text, paths, logits, *, of_target):
        return logits.float() + torch.arange(logits.shape[1]) * 1e-3

    rows = processed([TextProcessor(little, [])], tree, None, narrow, of_target=True)
    assert rows[0, 0].argmax() == tiny.VOCABULARY_SIZE - 1
    assert narrow.eq(8.0).all()
