"""The load of a server: what its rounds come to, and one round of a real server over tiny models."""

import asyncio
from pathlib import Path

import pytest
import tiny
from serving import listening
from treewright.collect.measure.serve_load.asks import asks_of_round
from treewright.collect.measure.serve_load.client import Answer, Client
from treewright.collect.measure.serve_load.command import serve_load
from treewright.collect.measure.serve_load.rounds import Burst, Round, run_rounds
from treewright.collect.measure.serve_load.rows import load_row
from treewright.collect.measure.serve_load.settings import LoadConfig
from treewright.collect.prompts.prompt import Prompt
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits

PROMPTS = [Prompt("w1 w2 w3", "text", "a", "line 1"), Prompt("w4 w5", "text", "b", "line 2")]
CHAT = Prompt("", "text", "c", "line 3", messages=({"role": "user", "content": "w1"},))


def burst(seconds, *answers, steps=10, drafts=0):
    counted: dict[str, float] = {
        "decode_steps_total": steps,
        "spec_decode_num_drafts_total": drafts,
        "selector_seconds_count": 5,
    }
    for part in ("prefill", "draft", "selector", "verify"):
        counted[f"{part}_seconds_sum"] = 0.01
    return Burst([Answer(*answer) for answer in answers], seconds, counted)


def test_a_row_is_paired_by_round():
    rounds = [
        Round(burst(2.0, ("a", 10, 5.0, 50.0)), burst(1.0, ("a", 10, 4.0, 40.0), drafts=5)),
        Round(burst(4.0, ("b", 10, 7.0, 70.0)), burst(2.0, ("c", 10, 6.0, 60.0), drafts=10)),
    ]
    row = load_row(1, rounds)
    assert (row.ratio, row.ratio_95) == (2.0, [2.0, 2.0])  # twice as fast in every round
    assert (row.texts, row.texts_unlike) == (2, 1)
    assert (row.drafting_share, row.tokens_per_step) == (0.75, 1.0)
    assert (row.off.tokens_per_second, row.auto.tokens_per_second) == (3.3, 6.7)
    assert row.off.first_token_ms == [6.0, 6.9, 7.0]
    assert row.auto.latency_ms == [50.0, 59.0, 59.8]
    assert row.off.steps == 10
    assert row.off.part_ms == {"read": 2.0, "draft": 2.0, "choose": 2.0, "verify": 2.0}


def test_no_round_repeats_a_text():
    load = LoadConfig(texts_per_client=3)
    asks = [ask for number in range(3) for ask in asks_of_round(PROMPTS, load, 4, number)]
    assert len(asks) == len({ask.seed for ask in asks}) == 36
    assert {ask.prompt for ask in asks} == {"w1 w2 w3", "w4 w5"}
    assert all(24 <= ask.max_tokens <= 72 for ask in asks)


def test_a_chat_is_refused():
    with pytest.raises(InputError, match="line 3 is a chat"):
        asks_of_round([CHAT], LoadConfig(), 1, 0)


def test_a_round_of_a_real_server_has_the_same_texts_in_both_ways_and_drafts_in_one():
    selector = Selector(ConfidenceScorer(), TreeLimits(max_depth=3, width=2, frontier=2, budget=6))
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector)
    load = LoadConfig(rounds=2, texts_per_client=1, max_tokens=6)

    async def ask(address):
        client = Client(address)
        async with client.http:
            return await run_rounds(client, await client.model(), PROMPTS, load, 3)

    with listening(decoder=decoder) as server:
        row = load_row(3, asyncio.run(ask(server.address)))
    assert (row.texts, row.texts_unlike) == (16, 0)
    assert row.drafting_share > 0.5
    assert row.tokens_per_step > 1.0
    assert row.off.steps > row.auto.steps > 0
    assert row.off.part_ms["draft"] == 0 < row.auto.part_ms["draft"]


def test_a_server_that_is_not_there_is_named():
    async def ask():
        client = Client("http://127.0.0.1:9")
        async with client.http:
            await client.model()

    with pytest.raises(InputError, match="serves no model"):
        asyncio.run(ask())


def test_batches_without_a_price_are_refused():
    with pytest.raises(InputError, match="end with 64, and max_batch is 65"):
        serve_load(max_batch=65)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"concurrency": ()}, "load.concurrency names nothing"),
        ({"concurrency": (2, 2)}, "load.concurrency is of distinct numbers"),
        ({"rounds": 1}, "load.rounds is at least 2, got 1"),
        ({"texts_per_client": 0}, "load.texts_per_client is at least 1, got 0"),
        ({"prompts": 0}, "load.prompts is at least 1, got 0"),
        ({"max_tokens": 1}, "load.max_tokens is between 2 and 4096, got 1"),
        ({"temperature": -1.0}, "load.temperature"),
        ({"seed": -1}, "load.seed"),
        ({"out": Path("/nowhere/report.json")}, "/nowhere/report.json cannot be written"),
    ],
)
def test_a_load_that_cannot_be_measured_is_refused(fields, complaint):
    with pytest.raises(InputError, match=complaint):
        LoadConfig(**fields)
