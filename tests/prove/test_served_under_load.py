"""A server process of the reference pair under clients of all kinds: none holds it up, and its counts add up."""

import asyncio
import json
import random
import signal
import socket
import threading
import time

import httpx
import pytest
from processes import served
from traffic import (
    BODY,
    NO_LIMIT,
    connect,
    counts_when_idle,
    ended,
    gained,
    held,
    metrics,
    post,
    request,
    streams,
    total,
    wait_until_running,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared():
    with served("--server.max_queue", 1024) as server:
        yield server


def test_clients_that_left_keep_nobody_out(shared):
    gone = [connect(shared.address, request(prompt=["def main("] * 4, n=8, max_tokens=200)) for _ in range(40)]
    while metrics(shared.address)["treewright_num_requests_waiting"] < 900:
        pass
    for client in gone:
        client.close()
    while (answer := post(shared.address)).status_code == 503:
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.status_code == 200


def test_a_prompt_of_megabytes_costs_neither_time_nor_memory(shared):
    expected = post(shared.address).json()["choices"]
    before = held(shared.process).resident_bytes
    answer = post(shared.address, prompt="x" * 3_900_000)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
    assert held(shared.process).resident_bytes - before < 100 << 20
    assert post(shared.address).json()["choices"] == expected


def test_a_request_of_one_token_does_not_wait_for_one_of_512_texts(shared):
    one = post(shared.address, max_tokens=1).json()["choices"]
    large = threading.Thread(target=post, args=(shared.address,), kwargs={"prompt": ["def main("] * 64, "n": 8})
    large.start()
    while metrics(shared.address)["treewright_num_requests_waiting"] < 400:
        pass
    assert post(shared.address, max_tokens=1).json()["choices"] == one
    assert metrics(shared.address)["treewright_num_requests_waiting"] > 300
    large.join()


async def ask_all(address, bodies):
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=NO_LIMIT, limits=limits) as client:
        return await asyncio.gather(*[client.post("/v1/completions", json=BODY | body) for body in bodies])


def test_two_hundred_clients_all_get_the_text_that_they_get_alone(shared):
    alone = [post(shared.address, seed=seed).json()["choices"] for seed in range(4)]
    answers = asyncio.run(ask_all(shared.address, [{"seed": number % 4} for number in range(200)]))
    assert [answer.json()["choices"] for answer in answers] == [alone[number % 4] for number in range(200)]


def test_counts_add_up_whatever_becomes_of_the_requests(shared):
    moments, counted, address = random.Random(3), [], shared.address

    async def ask(client, number):
        body = BODY | {"seed": number, "max_tokens": 12, "n": 1 + number % 2, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            num_lines, stop = 0, moments.choice([None, None, 1, 4])
            async for line in answer.aiter_lines():
                num_lines += 1
                if num_lines == stop:
                    return
                if '"usage":{' in line:
                    counted.append(json.loads(line.removeprefix("data: "))["usage"])

    async def ask_many():
        async with httpx.AsyncClient(base_url=address, timeout=NO_LIMIT) as client:
            await asyncio.gather(*[ask(client, number) for number in range(60)])

    before = counts_when_idle(address)
    asyncio.run(ask_many())
    after = counts_when_idle(address)
    assert gained(before, after, "request_accepted") == 91
    assert min(ended(after)[:2]) > 0 and sum(ended(after)) == total(after, "request_accepted")
    generated = gained(before, after, "generation_tokens")
    assert 0 < sum(usage["completion_tokens"] for usage in counted) <= generated
    nodes = [total(after, f"spec_decode_num_{what}_tokens") for what in ("accepted", "verified", "draft")]
    assert 0 < nodes[0] < nodes[1] <= nodes[2]
    assert total(after, "spec_decode_num_accepted_tokens_per_pos") == nodes[0]
    answers = [post(address, seed=seed, n=2).json()["usage"] for seed in range(3)]
    for name, field in (("generation_tokens", "completion_tokens"), ("prompt_tokens", "prompt_tokens")):
        assert total(metrics(address), name) - total(after, name) == sum(usage[field] for usage in answers)


def ends_well(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("grace", [600, 0])
def test_sigterm_under_load_ends_every_stream_and_the_process(grace):
    with served("--server.grace", grace, "--max_batch", 16) as (process, address):
        still = [connect(address, text) for text in ("", "POST /v1", request()[:-5], request(stream=True))]
        still[-1].shutdown(socket.SHUT_WR)
        received, readers = streams(address, 16, max_tokens=48)
        wait_until_running(address, 16)
        process.send_signal(signal.SIGTERM)
        for reader in readers:
            reader.join()
        assert ends_well(process)["requests"] in (16, 17)
        last = [events[-2:] for events in received]
        assert all(done == "[DONE]" for _, done in last)
        assert all(("error" in json.loads(event)) == (grace == 0) for event, _ in last)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_that_is_told_to_end_again_and_again_ends_well(number):
    with served() as (process, _):
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            time.sleep(0.003)
            process.send_signal(number)
        ends_well(process)


def test_a_second_signal_ends_the_process_at_once():
    with served("--server.grace", 600) as (process, address):
        clients = [connect(address, request(stream=True, max_tokens=400)) for _ in range(4)]
        wait_until_running(address, 4)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert ends_well(process)["completion_tokens"] < 4 * 400
        assert all(client.close() is None for client in clients)
