"""The decode loop puts tokens into any sink: no tokenizer, and no text."""

import tiny
from treewright.controller.contract import COUPLED
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.batch import Batch
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.loop import Loop
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

REQUESTS = tiny.requests(3, 0.8)


class ListSink:
    """A list of at most `max_tokens` tokens; it raises at the token `refused`."""

    def __init__(self, max_tokens, refused=None):
        self.token_ids = []
        self.error = None
        self.log_probs = None
        self._max_tokens = max_tokens
        self._refused = refused

    @property
    def remaining(self):
        return 0 if self.error else self._max_tokens - len(self.token_ids)

    def append(self, tokens):
        taken = tokens[: self.remaining]
        if self._refused in taken:
            raise ValueError("refused")
        self.token_ids += taken
        return len(taken)

    def fail(self, error):
        self.error = error


def decode(sinks):
    """The tokens taken by each step."""
    drafter = LanguageModelDrafter(tiny.llama(noise=0.02), COUPLED)
    selector = Selector(ConfidenceScorer(), TreeLimits(3, 2, 2, 6))
    batch = Batch(Loop(Target(tiny.llama()), WalkVerifier(), drafter, selector, None))
    for request, sink in zip(REQUESTS, sinks, strict=True):
        batch.join(request, sink)
    counts = []
    while len(batch):
        record = batch.step()
        counts.append(0 if record is None else int(record.num_emitted.sum()))
    return counts


def plain():
    return [text.token_ids for text in tiny.decoder(tiny.llama()).generate(REQUESTS)[0]]


def test_lists_of_tokens_are_the_plain_texts():
    sinks = [ListSink(request.max_tokens) for request in REQUESTS]
    counts = decode(sinks)
    assert [sink.token_ids for sink in sinks] == plain()
    assert sum(counts) == sum(request.max_tokens for request in REQUESTS)
    assert max(counts) > len(REQUESTS)


def test_a_sink_that_raises_ends_its_own_request_alone():
    expected = plain()
    sinks = [ListSink(request.max_tokens) for request in REQUESTS]
    sinks[1] = ListSink(REQUESTS[1].max_tokens, refused=expected[1][5])
    decode(sinks)
    assert str(sinks[1].error) == "refused"
    assert sinks[1].token_ids == expected[1][: len(sinks[1].token_ids)]
    assert [sinks[0].token_ids, sinks[2].token_ids] == [expected[0], expected[2]]
