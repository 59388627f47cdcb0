"""Clients that cut their connections at any moment: what they asked for is decoded no further, and nothing leaks."""

import random
import statistics
import time

import pytest
from processes import served
from proofs import at_length, record
from traffic import connect, counts_when_idle, ended, gained, held_alone, held_when_closed, metrics, request, total

pytestmark = pytest.mark.slow
QUIET = ("--access_log", "false")
LONG = 900


def test_cuts_at_random_moments_leak_nothing():
    num_cuts, moments = at_length(100, 500), random.Random(11)
    with served("--max_batch", 16, *QUIET) as (process, address):
        before, free = counts_when_idle(address), held_alone(process)
        for number in range(num_cuts):
            text = request(stream=number % 2 == 0, n=1 + number % 3, max_tokens=LONG, seed=number)
            client = connect(address, text[: moments.choice([len(text), moments.randrange(len(text))])])
            time.sleep(moments.uniform(0, 0.1))
            client.close()
        after = counts_when_idle(address)
        left_over = held_when_closed(process, free)
    finished, cancelled, failed = (now - then for then, now in zip(ended(before), ended(after), strict=True))
    assert left_over.descriptors == free.descriptors
    still = after["treewright_num_requests_running"] + after["treewright_num_requests_waiting"]
    assert finished == 1 and cancelled > 0 == failed  # the one is that of the counts
    assert finished + cancelled == gained(before, after, "request_accepted")
    record(
        "cut at any moment",
        "requests that are cut off at any moment leave no text, descriptor or place behind",
        f"{num_cuts} connections closed within 0.1 s, half of them before the whole request was sent; streams and "
        f"whole answers of one to three texts of {LONG} tokens",
        texts_accepted=int(finished + cancelled),
        texts_still_decoded=int(still),
        descriptors_left_behind=left_over.descriptors - free.descriptors,
    )


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_nothing_is_decoded_once_a_client_has_left(stream):
    num_cuts, waits, steps = at_length(10, 40), [], []
    with served("--max_batch", 1, *QUIET) as (_, address):
        for number in range(num_cuts):
            client = connect(address, request(stream=stream, max_tokens=LONG, seed=number))
            while metrics(address)["treewright_num_requests_running"] == 0:
                pass
            before = metrics(address)
            client.close()
            closed = time.monotonic()
            after = metrics(address)
            while after["treewright_num_requests_running"] or not gained(before, after, "request_cancelled"):
                after = metrics(address)
            waits.append(time.monotonic() - closed)
            steps.append(gained(before, after, "decode_steps"))
            assert gained(before, after, "request_cancelled") == 1
            time.sleep(0.1)
            assert total(metrics(address), "decode_steps") == total(after, "decode_steps")
    record(
        f"cut {'stream' if stream else 'whole answer'}",
        "a text whose client has left is decoded no further",
        f"{num_cuts} {'streams' if stream else 'whole answers'} of {LONG} tokens, each cut while it is decoded alone; "
        "steps and times include the reading of the counts before and after",
        steps_after_the_cut_half_of_the_time=statistics.median(steps),
        steps_at_most=max(steps),
        ms_until_its_place_is_free_half_of_the_time=round(1e3 * statistics.median(waits)),
        ms_at_most=round(1e3 * max(waits)),
    )
