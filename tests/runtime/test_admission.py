"""Requests in caches that do not hold all of them at once, as on a device: who joins, who waits, who is refused."""

import numpy as np
import pytest
import tiny
from treewright.controller.errors import InputError
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


ROOM = 6 * PAGE  # of each of these requests, whose texts have 20 to 40 tokens
ASKED = [request(8 + 3 * seed, 12 + 2 * seed, seed) for seed in range(5)]
PLAIN_TEXTS = [plain(each) for each in ASKED]
# Rows of target and drafter that hold two of the requests at a time.
TWO_FIT = {"target": (2 * ROOM, 40 * PAGE), "drafter": (40 * PAGE, 2 * ROOM), "both": (2 * ROOM, 2 * ROOM)}


def joined(decoder, asked):
    """A batch that all have joined, and their streams."""
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    for each, stream in zip(asked, streams, strict=True):
        batch.join(each, stream)
    return batch, streams


def sizes_of_steps(batch):
    """Texts in each step until the batch is empty."""
    sizes = []
    while len(batch):
        record = batch.step()
        sizes.append(0 if record is None else len(record.num_emitted))
    return sizes


@pytest.mark.parametrize("small", TWO_FIT)
def test_requests_that_find_no_room_wait_until_others_leave_and_get_their_plain_texts(small):
    decoder = decoder_of(*TWO_FIT[small])
    batch, streams = joined(decoder, ASKED)
    sizes = sizes_of_steps(batch)
    assert max(sizes) == 2 and 0 not in sizes
    assert [stream.token_ids for stream in streams] == PLAIN_TEXTS


@pytest.mark.parametrize("small", ["target", "drafter"])
def test_a_request_that_can_never_fit_fails_at_once_and_alone(small):
    decoder, too_long = decoder_of(*TWO_FIT[small]), request(2 * ROOM, 9, 7)
    batch, streams = joined(decoder, [*ASKED[:1], too_long, *ASKED[1:]])
    batch.step()
    rows = 2 * ROOM + 9 + CHUNK + 1 + LIMITS.budget
    assert f"a text of {rows} rows, its tree included, does not fit into a cache of {2 * ROOM} rows" in str(
        streams[1].error
    )
    assert isinstance(streams[1].error, InputError)
    assert sizes_of_steps(batch)[0] == 2  # nobody had to leave for it
    assert [stream.token_ids for stream in streams] == [PLAIN_TEXTS[0], [], *PLAIN_TEXTS[1:]]


def test_a_request_that_can_never_fit_fails_where_it_is_the_only_one():
    decoder = decoder_of(*TWO_FIT["both"])
    with pytest.raises(InputError, match="does not fit into a cache"):
        decoder.generate([request(2 * ROOM, 9, 7)])
    (stream,), _ = decoder.generate(ASKED[:1])
    assert stream.token_ids == PLAIN_TEXTS[0]


def test_a_request_waits_for_one_whose_prompt_is_still_being_read():
    long = request(3 * CHUNK, 10, 8)
    asked = [ASKED[0], long, ASKED[1]]
    decoder = decoder_of(ROOM + 18 * PAGE, 40 * PAGE)
    batch, streams = joined(decoder, asked)
    while not streams[1].token_ids:
        batch.step()
        assert not streams[2].token_ids
    assert max(sizes_of_steps(batch)) == 2
    assert [stream.token_ids for stream in streams] == [PLAIN_TEXTS[0], plain(long), PLAIN_TEXTS[1]]


@pytest.mark.parametrize("leaving", [0, 1, 2, 3])
def test_who_leaves_makes_room_or_is_no_longer_waited_for(leaving):
    """Two are decoded, the others wait."""
    decoder = decoder_of(*TWO_FIT["both"])
    batch, streams = joined(decoder, ASKED[:4])
    batch.step()
    batch.leave(streams[leaving])
    assert len(batch) == 3
    assert max(sizes_of_steps(batch)) == 2
    for number, (stream, text) in enumerate(zip(streams, PLAIN_TEXTS, strict=False)):
        assert bool(stream.remaining) == (number == leaving)
        assert stream.token_ids == text[: len(stream.token_ids)]
    again, _ = decoder.generate(ASKED)
    assert [stream.token_ids for stream in again] == PLAIN_TEXTS


def test_who_leaves_while_its_prompt_is_read_makes_room():
    decoder = decoder_of(ROOM + 18 * PAGE, 40 * PAGE)
    batch, streams = joined(decoder, [ASKED[0], request(3 * CHUNK, 10, 8), ASKED[1]])
    batch.step()
    batch.leave(streams[1])
    batch.step()
    assert streams[2].token_ids
    assert max(sizes_of_steps(batch)) == 2
    assert [streams[0].token_ids, streams[2].token_ids] == PLAIN_TEXTS[:2]
