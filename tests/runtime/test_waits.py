"""On a device, a step waits once per drafted level and once for its verdict."""

import device
import numpy as np
import pytest
import tiny
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.engines.transformers.static import StaticModel

SETTINGS = [{"temperature": 0.0}, {"temperature": 0.8}, {"temperature": 1.2, "top_k": 9, "top_p": 0.9}]


class HistoryScorer(ConfidenceScorer):
    """Has the history kept, like a learned one."""

    reads_history = True


def model(noise=0.0):
    return StaticModel(tiny.llama(noise=noise).model, tiny.VOCABULARY_SIZE)


def steps_of(requests, *, scheme=COUPLED, ngrams=True, history=True):
    """The texts, and of every step its record and what the device counted."""
    scorer = HistoryScorer() if history else ConfidenceScorer()
    limits = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=ngrams)
    drafter = LanguageModelDrafter(device.on_device(model(0.02)), scheme, ngrams=ngrams)
    steps = []
    with device.Device() as mode:
        decoder = tiny.decoder(device.on_device(model()), drafter, Selector(scorer, limits))
        streams = decoder.open_streams(requests)
        for record in decoder.steps(requests, streams):
            steps.append((record, dict(mode.counts)))
            mode.counts.clear()
    return [stream.token_ids for stream in streams], steps


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("batch", [1, 8])
def test_a_step_waits_once_per_level_and_once_for_the_verdict(batch, scheme, settings):
    requests = tiny.requests(batch, max_tokens=10, **settings)
    for extras in (False, True):
        texts, steps = steps_of(requests, scheme=scheme, ngrams=extras, history=extras)
        assert texts == [text.token_ids for text in tiny.decoder(tiny.llama()).generate(requests)[0]]
        assert any(record.level_widths for record, _ in steps)
        for record, counts in steps:
            assert counts["waits"] == len(record.level_widths) + 1


def test_a_level_sends_one_array_and_the_verdict_another():
    _, steps = steps_of(tiny.requests(8, 0.8, max_tokens=10, top_p=0.9))
    sizes = [len(record.kept.tokens) for record, _ in steps]
    settled = [number for number in range(1, len(steps) - 1) if sizes[number - 1 : number + 2] == [8, 8, 8]]
    assert settled
    for record, counts in (steps[number] for number in settled):  # no text joins or leaves
        assert counts["uploads"] == len(record.level_widths) + 1


def test_texts_cut_by_settings_of_their_own_cost_no_more_ops_than_one():
    """Nothing is done text by text."""
    ops = []
    for batch in (1, 8):
        _, steps = steps_of(tiny.requests(batch, 0.8, max_tokens=10, top_p=0.9))
        ops.append(next(counts["ops"] for record, counts in steps if len(record.level_widths) == 4))
    assert ops[1] < 1.2 * ops[0]


def test_the_history_read_with_the_verdict_is_that_of_its_tokens():
    requests = tiny.requests(3, 0.8, max_tokens=10, top_p=0.9)
    _, on_device = steps_of(requests)
    limits = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
    decoder = tiny.decoder(model(), model(0.02), Selector(HistoryScorer(), limits))
    on_host = list(decoder.steps(requests, decoder.open_streams(requests)))
    for (record, _), expected in zip(on_device, on_host, strict=True):
        assert np.array_equal(record.context.history, expected.context.history)
