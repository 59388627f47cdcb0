"""Texts that join and leave between steps are the texts they would be alone."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from treewright.controller.contract import IID_PATHS
from treewright.controller.errors import SettingError
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.guard import Guard
from treewright.controller.policies.selector import Selector
from treewright.controller.policies.sequoia import static_selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.narrow import NarrowScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 0.5, "top_p": 0.9},
    {"temperature": 1.0},
    {"temperature": 1.3, "top_k": 12},
]
LONGEST = 3 * CHUNK + 40


def decoders():
    """By name, how texts are decoded; the target's positions reach far."""
    target = tiny.llama(positions=4 * CHUNK)
    drafter = tiny.llama(noise=0.02, positions=4 * CHUNK)
    drawn = tiny.decoder(target, drafter, sampled_shape(IID_PATHS, 3, 1, 2), IID_PATHS, verifier="specinfer")
    return {
        "plain": tiny.decoder(target),
        "trees": tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)),
        "drawn trees": drawn,
    }


def requests(generator, count):
    """Of all lengths and settings, two in nine with prompts that are read in several pieces."""
    lengths = [1, 2, 5, CHUNK // 2, 9, CHUNK + 30, 3, 30, LONGEST]
    return [
        Request(
            generator.integers(tiny.VOCABULARY_SIZE, size=lengths[number % len(lengths)]).tolist(),
            int(generator.integers(1, 30)),
            Sampling(seed=number, **SETTINGS[number % len(SETTINGS)]),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("name", decoders())
def test_a_text_does_not_depend_on_the_requests_that_join_and_leave(name):
    decoder, generator = decoders()[name], np.random.default_rng(4)
    asked = requests(generator, 27)
    streams, left = decoder.open_streams(asked), set()
    batch, coming = decoder.open_batch(), list(range(len(asked)))
    while coming or len(batch):
        for number in coming[: generator.integers(0, 3)] if len(batch) < 8 else []:
            batch.join(asked[number], streams[number])
            coming.remove(number)
        batch.step()
        under_way = [n for n in range(len(asked)) if n not in coming and n not in left and streams[n].remaining]
        if under_way and generator.random() < 0.05:
            number = generator.choice(under_way)
            batch.leave(streams[number])
            left.add(number)
    assert 0 < len(left) < 9
    for number, (request, stream) in enumerate(zip(asked, streams, strict=True)):
        (alone,), _ = decoder.generate([request])
        assert stream.token_ids == alone.token_ids[: len(stream.token_ids)]
        assert (number in left) == bool(stream.remaining)


def test_a_long_prompt_is_read_beside_the_steps_of_the_others():
    decoder = decoders()["trees"]
    short, long = (Request([1] * length, 40, Sampling(seed=length)) for length in (3, LONGEST))
    streams = decoder.open_streams([short, long])
    batch = decoder.open_batch()
    for request, stream in zip([short, long], streams, strict=True):
        batch.join(request, stream)
        record = batch.step()
        assert record is not None and len(record.num_emitted) == 1
    while not streams[1].token_ids:
        before = len(streams[0].token_ids)
        record = batch.step()
        assert record is not None and len(streams[0].token_ids) > before
        assert record.read_ms < record.total_ms


def test_the_drafter_too_reads_a_long_prompt_by_pieces_where_others_wait():
    target, drafter = (tiny.llama(noise=noise, positions=4 * CHUNK) for noise in (0.0, 0.02))
    decoder = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS))
    asked = [Request([1] * length, 60, Sampling(seed=length)) for length in (3, LONGEST)]
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    for request, stream in zip(asked, streams, strict=True):
        batch.join(request, stream)
        batch.step()
    read, drafted_beside = [], 0
    while streams[1].remaining:
        before = int(drafter.lengths.sum())
        record = batch.step()
        assert record is not None
        drafted = record.drafted.num_nodes - 1
        if len(drafted) == 2:
            read.append(int(drafter.lengths.sum()) - before)
            drafted_beside += drafted[0] > 0 == drafted[1]
    assert CHUNK <= max(read) < 2 * CHUNK
    assert drafted_beside == LONGEST // CHUNK
    assert [stream.token_ids for stream in streams] == [
        stream.token_ids for request in asked for stream in decoder.generate([request])[0]
    ]


def test_prompts_are_read_in_the_order_they_came():
    decoder = decoders()["plain"]
    asked = [replace(request, max_tokens=30) for request in requests(np.random.default_rng(1), 18)]
    streams = decoder.open_streams(asked)
    batch = decoder.open_batch()
    begun = []
    for request, stream in zip(asked, streams, strict=True):
        batch.join(request, stream)
    while len(begun) < len(asked):
        batch.step()
        begun += [n for n, stream in enumerate(streams) if stream.token_ids and n not in begun]
    assert begun == sorted(begun)


def test_finished_texts_free_their_slots_for_others():
    decoder = decoders()["plain"]
    batch = decoder.open_batch()
    for number in range(5):
        (stream,) = decoder.open_streams([Request([number + 1], 3, Sampling())])
        batch.join(Request([number + 1], 3, Sampling()), stream)
    sizes = []
    while len(batch):
        record = batch.step()
        assert record is not None
        sizes.append(len(record.num_emitted))
    assert sizes == [5, 5, 5]
    assert batch.step() is None


@pytest.mark.slow
def test_a_text_of_33000_tokens_is_its_plain_text_beside_a_short_one():
    """Masks are as large as the rows of a forward times the context, never the context squared."""
    generator = np.random.default_rng(5)
    target, drafter = (tiny.llama(noise=noise, positions=34_000) for noise in (0.0, 0.02))
    asked = [
        Request(generator.integers(tiny.VOCABULARY_SIZE, size=length).tolist(), 300, Sampling(0.8, seed=length))
        for length in (33_000, 20)
    ]
    trees, _ = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)).generate(asked)
    for request, text in zip(asked, trees, strict=True):
        (plain,), _ = tiny.decoder(target).generate([request])
        assert text.token_ids == plain.token_ids


@pytest.mark.parametrize("shared", ["target", "drafter"])
def test_a_batch_whose_model_another_batch_has_opened_raises(shared):
    common = {"target": tiny.llama(), "drafter": tiny.llama(noise=0.02)}
    pairs = [{"target": tiny.llama(), "drafter": tiny.llama(noise=0.02)} for _ in range(2)]
    models = [pair | {shared: common[shared]} for pair in pairs]
    selectors = [Selector(ConfidenceScorer(), TreeLimits(max_depth=2, width=2, frontier=2, budget=4)) for _ in range(2)]
    (request,) = tiny.requests(1, 0.8)
    decoders = [
        tiny.decoder(pair["target"], pair["drafter"], selector)
        for pair, selector in zip(models, selectors, strict=True)
    ]
    batches = []
    for decoder in decoders:
        batch = decoder.open_batch()
        batch.join(request, *decoder.open_streams([request]))
        batch.step()
        batches.append(batch)
    batches[1].step()
    with pytest.raises(AssertionError, match="opened for another batch, which ended this one"):
        batches[0].step()


def test_a_decoder_has_one_batch_at_a_time():
    decoder, (request,) = tiny.decoder(tiny.llama()), tiny.requests(1, 0.8)
    batches = [decoder.open_batch() for _ in range(2)]
    for batch in batches:
        batch.join(request, *decoder.open_streams([request]))
    batches[1].step()
    with pytest.raises(AssertionError, match="opened for another batch, which ended this one"):
        batches[0].step()


def test_rows_are_not_reached_through_a_session_that_has_ended():
    model = tiny.llama()
    target, other = Target(model), Target(model)
    target.open()
    other.open()
    with pytest.raises(AssertionError, match="opened for another batch, which ended this one"):
        target.join(np.array([1, 2]), 20)


@pytest.mark.parametrize("verifier", ["naive", "traversal", "spectr"])
def test_a_tree_grows_on_beside_a_wider_one_that_may_not(verifier):
    """The padded width of the batch stays the same then; the request's draws must be those it has alone."""
    for seed in range(12):
        long = Request([1, 2, 3], 20, Sampling(temperature=0.3, seed=seed))
        short = Request([4, 5, 6], 2, Sampling(temperature=3.0, seed=seed + 1000))
        alone, beside = (
            tiny.decoder(
                tiny.llama(), tiny.llama(noise=0.02), sampled_shape(IID_PATHS, 4, 0, 6), IID_PATHS, verifier=verifier
            ).generate(requests)[0]
            for requests in ([long], [long, short])
        )
        assert alone[0].token_ids == beside[0].token_ids


class Recorded(Selector):
    """A selector that counts how often it is asked."""

    asked = 0

    def begin(self, context):
        type(self).asked += 1
        return super().begin(context)


def test_nothing_is_drafted_for_requests_that_do_not_speculate():
    target, drafter = tiny.llama(positions=4 * CHUNK), tiny.llama(noise=0.02, positions=4 * CHUNK)
    decoder = tiny.decoder(target, drafter, Recorded(ConfidenceScorer(), LIMITS))
    asked = requests(np.random.default_rng(5), 6)
    plain = [stream.token_ids for stream in tiny.decoder(target).generate(asked)[0]]
    off = [replace(request, speculates=False) for request in asked]
    streams, stats = decoder.generate(off)
    assert [stream.token_ids for stream in streams] == plain
    assert stats.num_drafted == Recorded.asked == drafter.lengths.sum() == 0


@pytest.mark.parametrize("guarded", [False, True])
def test_each_request_may_be_drafted_for_by_a_policy_of_its_own(guarded):
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    selector = Selector(ConfidenceScorer(), LIMITS)
    decoder = tiny.decoder(target, drafter, Guard(selector) if guarded else selector)
    chain, star = static_selector([(0,), (0, 0)]), static_selector([(0,), (1,)])
    narrow = Selector(NarrowScorer(ConfidenceScorer(), 1), TreeLimits(max_depth=3, width=1, frontier=1, budget=3))
    own = [None, chain, star, narrow, chain]
    asked = [replace(request, policy=policy) for request, policy in zip(tiny.requests(5, 0.7), own, strict=True)]
    asked.append(replace(tiny.requests(6, 0.7)[5], speculates=False))
    streams, drafted, shapes = decoder.open_streams(asked), np.zeros(6, dtype=np.int64), set()
    for record in decoder.steps(asked, streams):
        if record.context.batch == 6 and record.context.remaining[:5].min() > 3:
            drafted += record.drafted.num_nodes - 1
            for row, most in ((1, 2), (2, 2), (3, 3), (4, 2), (5, 0)):
                kept = record.kept.row(row)
                assert kept.num_nodes[0] == 1 + most
                shapes.add((row, *kept.parents[0].tolist()))
    assert shapes == {(1, -1, 0, 1), (2, -1, 0, 0), (3, -1, 0, 1, 2), (4, -1, 0, 1), (5, -1)}
    assert drafted[:5].all() and drafted[5] == 0
    plain, _ = tiny.decoder(target).generate(tiny.requests(6, 0.7))
    assert [stream.token_ids for stream in streams] == [stream.token_ids for stream in plain]


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ([(0,)] + [(0, rank) for rank in range(LIMITS.width + 1)], "tree of width"),
        ([(0,) * length for length in range(1, LIMITS.max_depth + 2)], "tree of max_depth"),
    ],
)
def test_a_tree_of_a_request_is_no_larger_than_those_of_the_loop(paths, complaint):
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(ConfidenceScorer(), LIMITS))
    with pytest.raises(SettingError, match=f"speculation asks for a {complaint}"):
        decoder.open_streams([replace(tiny.requests(1, 0.7)[0], policy=static_selector(paths))])


def test_requests_that_do_not_speculate_are_decoded_beside_those_that_do():
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    decoder = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS))
    asked = [replace(request, speculates=number % 2 == 0) for number, request in enumerate(tiny.requests(6, 0.7))]
    streams = decoder.open_streams(asked)
    drafted = np.zeros((2, 0), dtype=np.int64)
    for record in decoder.steps(asked, streams):
        if len(record.drafted.num_nodes) == 6:
            by_kind = record.drafted.num_nodes.reshape(3, 2).sum(axis=0)[:, None] - 3
            drafted = np.concatenate((drafted, by_kind), axis=1)
    assert drafted[0].sum() > 0 == drafted[1].sum()
    assert [s.token_ids for s in streams] == [s.token_ids for s in tiny.decoder(target).generate(asked)[0]]
