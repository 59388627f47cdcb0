"""A failing request ends alone, with its own error; the others get the texts they would have alone."""

import numpy as np
import pytest
import tiny
from failing import FailingModel
from tokenizers import decoders
from treewright.controller.contract import COUPLED, IID_PATHS
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
ROOM = 29  # no two of the texts below ask for the same of prompt and text together


def requests(marked_prompt=5):
    """Some texts, of which the third is marked."""
    generator = np.random.default_rng(3)
    return [
        Request(generator.integers(tiny.VOCABULARY_SIZE, size=length).tolist(), ROOM, Sampling(0.9, seed=length))
        for length in (3, CHUNK + 20, marked_prompt, 40, 7)
    ]


def decoder_of(trees, target=None, drafter=None):
    """`target` and `drafter` say how the model fails."""
    models = [tiny.llama(noise=noise, positions=4 * CHUNK) for noise in (0.0, 0.02)]
    step_rows = CHUNK + 1 + (LIMITS.budget if trees else 0)
    target, drafter = (
        model if failure is None else FailingModel(model, **failure, step_rows=step_rows)
        for model, failure in zip(models, (target, drafter), strict=True)
    )
    if not trees:
        return tiny.decoder(target)
    return tiny.decoder(
        target, LanguageModelDrafter(drafter, COUPLED, ngrams=True), Selector(ConfidenceScorer(), LIMITS)
    )


def run(decoder, asked):
    """The texts, of which some may fail, and the sizes of the steps."""
    streams, batch, sizes = decoder.open_streams(asked), decoder.open_batch(), []
    for request, stream in zip(asked, streams, strict=True):
        batch.join(request, stream)
    while len(batch):
        record = batch.step()
        sizes.append(0 if record is None else len(record.num_emitted))
    return streams, sizes


PLAIN = tiny.decoder(tiny.llama(positions=4 * CHUNK))


def plain(request):
    return PLAIN.generate([request])[0][0]


def assert_only_the_marked_failed(streams, asked, kind):
    for number, (request, stream) in enumerate(zip(asked, streams, strict=True)):
        alone = plain(request)
        if number == 2:
            assert isinstance(stream.error, kind) and stream.finish_reason is None and not stream.remaining
            assert stream.token_ids == alone.token_ids[: len(stream.token_ids)]
        else:
            assert stream.error is None
            assert (stream.token_ids, stream.text) == (alone.token_ids, alone.text)


FAILURES = {
    "a text that cannot join": ({"max_length": -1}, 5, MemoryError),
    "a prompt that cannot be read to its end": ({"max_length": CHUNK - 1}, 3 * CHUNK, RuntimeError),
    "a text that fails in a step of all": ({"max_length": 11}, 5, RuntimeError),
}


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
def test_the_others_of_a_batch_go_on_as_if_nothing_had_happened(trees, failure):
    of_target, marked_prompt, kind = FAILURES[failure]
    asked = requests(marked_prompt)
    streams, sizes = run(decoder_of(trees, target={"marked": marked_prompt + ROOM} | of_target), asked)
    assert_only_the_marked_failed(streams, asked, kind)
    assert bool(streams[2].token_ids) == (kind is RuntimeError and marked_prompt == 5)
    assert max(sizes) >= 4


@pytest.mark.parametrize("failure", ["a text that cannot join", "a text that fails in a step of all"])
def test_a_drafter_that_fails_for_one_text_harms_no_other(failure):
    of_drafter, marked_prompt, kind = FAILURES[failure]
    asked = requests(marked_prompt)
    streams, _ = run(decoder_of(True, drafter={"marked": marked_prompt + ROOM} | of_drafter), asked)
    assert_only_the_marked_failed(streams, asked, kind)


class Unshowable:
    """A tokenizer's decoder that can show all words but one."""

    def decode_chain(self, tokens):
        if "w7" in tokens:
            raise ValueError("w7 cannot be shown")
        return [f" {token}" for token in tokens]


def test_a_text_that_cannot_be_shown_fails_alone():
    tokenizer = tiny.tokenizer()
    tokenizer.decoder = decoders.Decoder.custom(Unshowable())
    decoder = Decoder(Target(tiny.llama(positions=4 * CHUNK)), WalkVerifier(), tiny.detokeniser(tokenizer), frozenset())
    asked = [Request([8 if token == 7 else token for token in of.prompt_ids], ROOM, of.sampling) for of in requests()]
    streams, sizes = run(decoder, asked)
    assert max(sizes) == 5
    for request, stream in zip(asked, streams, strict=True):
        expected = plain(request).token_ids
        assert stream.token_ids == (expected[: expected.index(7) + 1] if 7 in expected else expected)
        assert ("w7 cannot be shown" in str(stream.error)) == (7 in expected)
    assert 0 < sum(stream.error is not None for stream in streams) < 5


def test_a_text_that_fails_has_its_error_even_if_clearing_up_after_it_fails(monkeypatch):
    asked = requests(3 * CHUNK)
    decoder = decoder_of(False, target={"marked": 3 * CHUNK + ROOM, "max_length": CHUNK - 1})
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    for request, stream in zip(asked, streams, strict=True):
        batch.join(request, stream)

    def fail(slots):
        raise MemoryError("no memory to clear up")

    monkeypatch.setattr("treewright.runtime.slots.Slots.drop_newcomer", fail)
    while len(batch):
        batch.step()
    assert isinstance(streams[2].error, RuntimeError)
    assert all(stream.error is not None or stream.finish_reason for stream in streams)


def test_a_panic_of_the_tokenizers_library_ends_the_text_it_belongs_to_alone():
    tokenizer = tiny.tokenizer()
    replace, strip = decoders.Replace("w7", ""), decoders.Strip(" ", 0, 1)
    tokenizer.decoder = decoders.Sequence([replace, strip, decoders.Fuse()])
    decoder = Decoder(Target(tiny.llama(positions=4 * CHUNK)), WalkVerifier(), tiny.detokeniser(tokenizer), frozenset())
    asked = [Request([8 if token == 7 else token for token in of.prompt_ids], ROOM, of.sampling) for of in requests()]
    streams, _ = run(decoder, asked)
    panics = [stream.error is not None for stream in streams]
    assert panics == [7 in plain(request).token_ids for request in asked]


def test_sampled_trees_decoded_one_by_one_keep_their_draws():
    asked, shape = requests(), sampled_shape(IID_PATHS, 3, 1, 2)
    texts = []
    for failure in ({}, {"crowded": 3}):
        target, drafter = (tiny.llama(noise=noise, positions=4 * CHUNK) for noise in (0.0, 0.02))
        decoder = tiny.decoder(FailingModel(target, **failure), drafter, shape, IID_PATHS, verifier="specinfer")
        texts.append([stream.token_ids for stream in run(decoder, asked)[0]])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("trees", [False, True])
def test_texts_that_fail_only_together_are_finished_one_by_one(trees):
    asked = requests()
    streams, sizes = run(decoder_of(trees, target={"crowded": 3}), asked)
    assert [stream.token_ids for stream in streams] == [plain(request).token_ids for request in asked]
    first_failure = sizes.index(0)
    assert max(sizes[first_failure : first_failure + 20]) == 1


def test_a_request_that_joins_while_others_are_decoded_one_by_one_waits_and_may_be_cancelled():
    asked = requests()
    decoder = decoder_of(False, target={"crowded": 2})
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    for request, stream in zip(asked[:3], streams, strict=False):
        batch.join(request, stream)
    while batch.step() is not None:
        pass
    for request, stream in zip(asked[3:], streams[3:], strict=True):
        batch.join(request, stream)
    batch.leave(streams[1])  # one of those that wait to go on alone
    batch.leave(streams[4])
    assert len(batch) == 3
    while streams[0].remaining:
        batch.step()
        assert not streams[3].token_ids
    while len(batch):
        batch.step()
    assert [bool(stream.remaining) for stream in streams] == [False, True, False, False, True]
    for number in (0, 2, 3):
        assert streams[number].token_ids == plain(asked[number]).token_ids


def test_the_error_of_a_request_is_raised_when_the_others_have_ended():
    asked = requests()
    decoder = decoder_of(False, target={"marked": 5 + ROOM, "max_length": 11})
    streams, steps = decoder.open_streams(asked), []
    with pytest.raises(RuntimeError, match="made to fail") as caught:
        steps.extend(decoder.steps(asked, streams))
    assert caught.value.__notes__ == [f"raised by request 3 of 5, whose seed is {asked[2].sampling.seed}"]
    assert [stream.finish_reason for stream in streams] == ["length", "length", None, "length", "length"]
    with pytest.raises(RuntimeError, match="made to fail"):
        decoder.generate(asked)


def test_a_text_alone_fails_at_once_and_the_next_batch_works():
    asked = requests()
    decoder = decoder_of(True, target={"marked": 5 + ROOM, "max_length": 11})
    with pytest.raises(RuntimeError, match="made to fail"):
        decoder.generate(asked[2:3])
    (stream,), _ = decoder.generate(asked[3:4])
    assert stream.token_ids == plain(asked[3]).token_ids
