"""Requests take turns, whatever they are like: none is kept waiting by one of many texts, nor by clients that left."""

import asyncio
import signal
import threading
from collections import Counter

import pytest
import tiny
from serving import Gate, assert_refused, chat, complete, make_decoder, serving
from treewright.controller.contract import COUPLED
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.prefixes.store import PrefixTotals
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.command import reloading
from treewright.runtime.serve.errors import ServeError
from treewright.runtime.serve.job import Job
from treewright.runtime.serve.prompts import CharacterLimit
from treewright.runtime.serve.queue import LONGEST_RETRY, FairQueue, Rate
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier


def requests(num_texts, max_tokens=1):
    return [Request([1, 2], max_tokens, Sampling(seed=9, choice=choice)) for choice in range(num_texts)]


def worker(observer=None, keep_text=None, totals=None, **limits):
    return Worker(
        make_decoder(observer),
        totals=totals or Totals(),
        keep_text=keep_text,
        **{"max_batch": 2, "max_queue": 8, **limits},
    )


async def text_of(job):
    pieces = [""] * len(job.requests)
    async for piece in job.pieces():
        pieces[piece.choice] += piece.text
    return pieces


def test_jobs_take_turns_and_those_with_fewer_texts_in_the_batch_come_first():
    async def turns():
        queue, jobs = FairQueue(9, 9.0), [Job(requests(count), ()) for count in (3, 2, 1)]
        for job in jobs:
            queue.add(job)
        running, order = Counter({jobs[0]: 1}), []
        while (text := queue.take(running)) is not None:
            running[text.job] += 1
            order.append((jobs.index(text.job), text.choice))
        return order

    assert asyncio.run(turns()) == [(1, 0), (2, 0), (0, 0), (1, 1), (0, 1), (0, 2)]


def test_texts_whose_client_has_left_take_no_room():
    async def ask(waiting):
        left = [await waiting.submit(requests(4)) for _ in range(2)]
        with pytest.raises(ServeError, match=r"the queue is full \(texts that wait: 8\)"):
            await waiting.submit(requests(1))
        left[0].cancelled.set()
        await waiting.submit(requests(3))
        await waiting.submit(requests(1))
        with pytest.raises(ServeError, match=r"the queue is full \(texts that wait: 8\)"):
            await waiting.submit(requests(1))

    asyncio.run(ask(worker()))  # not started, so what waits keeps waiting


def test_a_request_of_more_texts_than_the_queue_holds_may_wait_alone():
    async def ask(waiting):
        await waiting.submit(requests(20))
        with pytest.raises(ServeError, match=r"the queue is full \(texts that wait: 20\)"):
            await waiting.submit(requests(1))

    asyncio.run(ask(worker()))


def test_a_client_that_left_while_waiting_costs_no_step():
    totals = Totals()

    async def ask(waiting):
        job = await waiting.submit(requests(1, max_tokens=100))
        job.cancelled.set()
        with waiting:
            with pytest.raises(ServeError, match="has left"):
                await job.begun()
            assert len((await text_of(await waiting.submit(requests(1))))[0]) > 0

    asyncio.run(ask(worker(totals=totals)))
    assert (totals.requests, totals.completion_tokens) == (2, 1)


def test_one_of_many_texts_gives_way_to_one_of_a_single_token_and_each_text_stays_its_own():
    gate, ended = Gate(), []

    async def ask(busy):
        many = await busy.submit(requests(5, max_tokens=25))
        await many.begun()
        one = await busy.submit(requests(1))
        gate.opened.set()
        return await asyncio.gather(text_of(many), text_of(one))

    def keep(request, token_ids):
        ended.append(request.max_tokens)
        return True

    with worker(gate, keep) as busy:
        texts, single = asyncio.run(ask(busy))
    assert ended == [1, 25, 25, 25, 25, 25]
    for asked, got in ((requests(5, max_tokens=25), texts), (requests(1), single)):
        assert got == [make_decoder().generate([request])[0][0].text for request in asked]


def test_a_text_that_was_paused_leaves_its_own_tokens_as_a_prefix():
    gate, totals, ended = Gate(), PrefixTotals(), {}

    async def ask(busy):
        many = await busy.submit(requests(3, max_tokens=25))
        await many.begun()
        one = await busy.submit(requests(1))
        gate.opened.set()
        await asyncio.gather(text_of(many), text_of(one))
        longer = [Request([1, 2, *ended[choice], 3], 8, Sampling(seed=4)) for choice in range(3)]
        return longer, await text_of(await busy.submit(longer))

    def keep(request, token_ids):
        if request.max_tokens == 25:
            ended[request.sampling.choice] = [*token_ids]
        return True

    decoder = make_decoder(gate)
    decoder.keep_prefixes(1024, totals)
    with Worker(decoder, max_batch=2, max_queue=8, totals=Totals(), keep_text=keep) as busy:
        longer, texts = asyncio.run(ask(busy))
    assert texts == [make_decoder().generate([request])[0][0].text for request in longer]
    assert totals.tokens_reused >= 3 * 16


def test_a_request_that_waits_for_too_long_is_told_when_to_ask_again():
    gate = Gate()

    async def ask(busy):
        first = await busy.submit(requests(1, max_tokens=3))
        await first.begun()
        second = await busy.submit(requests(1))
        gate.opened.set()
        with pytest.raises(ServeError, match="waited for") as refused:
            await second.begun()
        assert refused.value.status == 503
        assert refused.value.headers == {"Retry-After": "1"}
        assert len((await text_of(first))[0].split()) == 3

    with worker(gate, max_batch=1, max_wait=0.0) as busy:
        asyncio.run(ask(busy))


def test_the_measured_rate_says_when_to_ask_again():
    now = [100.0]
    rate = Rate(lambda: now[0])
    assert rate.seconds_for(5) == 1
    for _ in range(2):
        now[0] += 1.0
        rate.count(2)
    assert rate.seconds_for(5) == 3  # two texts in a second
    now[0] += 8.0
    assert rate.seconds_for(5) == 13  # none has ended for a while
    assert rate.seconds_for(1000) == LONGEST_RETRY
    rate.restart()
    assert rate.seconds_for(5) == 1


def test_a_prompt_that_is_far_too_long_is_refused_before_it_is_tokenised():
    limit = CharacterLimit(["a", "longest"], context_length=10)
    limit.require(80, "prompt")
    with pytest.raises(ServeError, match=r"^prompt: has 81 characters") as refused:
        limit.require(81, "prompt")
    assert refused.value.envelope.error.code == "context_length_exceeded"
    with serving() as (client, _):
        far_too_long = "w1 " * 10_000
        assert_refused(complete(client, prompt=far_too_long), 400, "prompt", "context_length_exceeded")
        assert_refused(
            chat(client, [{"role": "user", "content": far_too_long}]), 400, "messages", "context_length_exceeded"
        )


MODELS = tiny.llama(), tiny.llama(noise=0.02)


def amid_texts(build):
    """The texts of a job amid which the decoder of the same models is replaced."""
    gate = Gate()

    async def ask(busy):
        job = await busy.submit(requests(3, max_tokens=20))
        await job.begun()
        busy.replace_decoder(build)
        gate.opened.set()
        return await text_of(job)

    with Worker(make_decoder(gate, MODELS[0]), max_batch=2, max_queue=8, totals=Totals()) as busy:
        return asyncio.run(ask(busy))


def drafting(observer):
    limits = TreeLimits(max_depth=3, width=2, frontier=2, budget=4)
    return Decoder(
        Target(MODELS[0]),
        WalkVerifier(),
        tiny.detokeniser(),
        frozenset(),
        drafter=LanguageModelDrafter(MODELS[1], COUPLED),
        selector=Selector(ConfidenceScorer(), limits),
        observer=observer,
    )


def test_a_decoder_is_replaced_amid_texts_that_stay_the_same(caplog):
    records = []
    texts = amid_texts(lambda: drafting(records.append))
    assert texts == [make_decoder().generate([request])[0][0].text for request in requests(3, max_tokens=20)]
    assert any(record.drafted.num_nodes.max() > 1 for record in records)
    assert "decoding goes on with what was read anew" in caplog.text


def test_a_decoder_that_is_refused_or_cannot_begin_changes_nothing(caplog):
    def refuse():
        raise InputError("the selector's graph was damaged")

    class Broken(Decoder):
        def prepare(self, max_batch):
            raise MemoryError("no room")

    def broken():
        return Broken(Target(MODELS[0]), WalkVerifier(), tiny.detokeniser(), frozenset())

    for build, why in ((refuse, "refused: the selector's graph was damaged"), (broken, "no room")):
        texts = amid_texts(build)
        assert texts == [make_decoder().generate([request])[0][0].text for request in requests(3, max_tokens=20)]
        assert "decoding goes on as it was, for what was read anew" in caplog.text and why in caplog.text


def test_sighup_reads_anew_and_without_a_selector_it_says_that_it_does_nothing(caplog):
    built = threading.Event()

    def build():
        built.set()
        return make_decoder()

    with worker() as idle:
        with reloading(idle, build):
            signal.raise_signal(signal.SIGHUP)
            assert built.wait(timeout=60)
        with reloading(idle, None):
            signal.raise_signal(signal.SIGHUP)
    assert "SIGHUP does nothing without speculation.selector" in caplog.text
