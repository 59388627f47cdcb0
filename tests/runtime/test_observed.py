"""A request may see its own steps, whatever else is in its batch, and costs the others nothing."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from treewright.controller.contract import COUPLED, FIXED, IID_PATHS
from treewright.controller.policies.delayed import delayed_tree
from treewright.controller.policies.eagle2 import eagle2
from treewright.controller.policies.guard import Guard
from treewright.controller.policies.sequoia import static_selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.stats import DecodeStats

LIMITS = TreeLimits(max_depth=3, width=2, frontier=2, budget=5)


def observed(requests, decoder=None):
    """The texts, and the records [row alone] that the observer of each request was shown."""
    decoder = decoder or tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), eagle2(LIMITS))
    seen = [[] for _ in requests]

    def observer(steps):
        return lambda record, row: steps.append(record.row(row))

    watched = [replace(request, observer=observer(steps)) for request, steps in zip(requests, seen, strict=True)]
    streams, _ = decoder.generate(watched)
    return [stream.token_ids for stream in streams], seen


def tokens_of(records):
    """What the records say was emitted."""
    tokens = []
    for record in records:
        path = record.verdict.path[0]
        block = [*record.kept.tokens[0, path[path >= 0]], *record.verdict.next_tokens]
        tokens += block[: int(record.num_emitted[0])]
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_each_request_of_a_batch_sees_its_own_text_step_by_step(temperature):
    requests = [replace(request, max_tokens=8 + 5 * row) for row, request in enumerate(tiny.requests(3, temperature))]
    texts, seen = observed(requests)
    assert [tokens_of(records) for records in seen] == texts
    assert texts == [observed([request])[0][0] for request in requests]
    assert max(len(records) for records in seen) > min(len(records) for records in seen)


def test_a_row_alone_is_the_step_of_a_batch_of_one():
    requests = tiny.requests(2, 0.8)
    _, (together, _) = observed(requests)
    _, (alone,) = observed(requests[:1])
    for row, record in zip(together, alone, strict=True):
        for name in ("links", "numbers", "num_nodes"):
            np.testing.assert_array_equal(getattr(row.drafted, name), getattr(record.drafted, name))
            np.testing.assert_array_equal(getattr(row.kept, name), getattr(record.kept, name))
        np.testing.assert_array_equal(row.context.positions, record.context.positions)
        np.testing.assert_array_equal(row.drafted.subtree(row.nodes).links, row.kept.links)
    stats = [DecodeStats(), DecodeStats()]
    for total, records in zip(stats, (together, alone), strict=True):
        for record in records:
            total.add(record)
    assert stats[0].num_accepted == stats[1].num_accepted > 0
    assert stats[0].num_drafted == stats[1].num_drafted


def test_predictions_are_the_policys_and_only_of_one_that_predicts():
    _, (records,) = observed(tiny.requests(1, 0.8))
    for record in records:
        tree = record.drafted
        assert record.log_values is not None
        within = tree.depths[0] <= record.context.max_depths[0]
        expected = tree.path_sums(ConfidenceScorer().score(tree, record.context).accept)[0]
        np.testing.assert_array_equal(record.log_values[0, within], expected[within])
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    silent = [
        tiny.decoder(target, drafter, static_selector([(0,), (1,), (0, 0)]), scheme=FIXED),
        tiny.decoder(target, drafter, delayed_tree(2, 1, 2), scheme=IID_PATHS, verifier="specinfer"),
        tiny.decoder(target),
    ]
    for decoder in silent:
        _, (records,) = observed(tiny.requests(1, 0.8), decoder)
        assert all(record.log_values is None for record in records)


def test_behind_the_guard_a_step_predicts_where_it_drafts():
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Guard(eagle2(LIMITS)), scheme=COUPLED)
    _, (records,) = observed(tiny.requests(1, 0.8), decoder)
    assert any(record.log_values is not None for record in records)
    assert all((record.log_values is not None) == bool(record.level_widths) for record in records)


def test_an_observer_that_raises_ends_its_own_request_alone():
    def fail(record, row):
        raise ValueError("the observer was made to fail")

    requests = tiny.requests(3, 0.8)
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), eagle2(LIMITS))
    watched = [requests[0], replace(requests[1], observer=fail), requests[2]]
    streams = decoder.open_streams(watched)
    with pytest.raises(ValueError, match="made to fail"):
        list(decoder.steps(watched, streams))
    expected = [observed([request])[0][0] for request in requests]
    assert [streams[row].token_ids for row in (0, 2)] == [expected[0], expected[2]]
