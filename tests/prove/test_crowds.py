"""Crowds of streaming clients before a server process: what HTTP can carry, a soak, and four times too many."""

import threading
from time import monotonic, sleep

import numpy as np
import programs
import pytest
from crowds import Crowd
from processes import served, tiny_options
from proofs import at_length, record
from traffic import BODY, counts_when_idle, ended, gained, held, held_alone, held_when_closed, metrics

pytestmark = [pytest.mark.slow, programs.installed]
QUIET = ("--access_log", "false")
TINY_TOKENS = 5
SOAKING = {"max_tokens": 24, "temperature": 1.0, "seed": -1}
MAX_BATCH, MAX_QUEUE = 8, 24
PREFIX_TOKENS = 512  # as many are kept within seconds, so that memory is where it stays


@pytest.fixture
def tiny_server(tmp_path):
    """One whose model takes next to no time, so that the rest shows."""
    with served(*tiny_options(tmp_path / "tiny"), "--max_batch", 32, *QUIET, tree="") as server:
        yield server


def test_what_http_carries_is_without_fault(tiny_server, tmp_path):
    seconds = at_length(15, 60)
    fields = {"max_tokens": TINY_TOKENS, "ignore_eos": True}
    report = Crowd(tiny_server.address, tmp_path, clients=16, seconds=seconds, fields=fields).report()
    assert report["completion_tokens"] == TINY_TOKENS * report["finished"]
    assert report["refused"] == 0
    record(
        "HTTP alone",
        "without a model to speak of, HTTP carries 150 streams a second, 99 of 100 within 300 ms",
        f"16 clients of locust for {seconds} s ask a tiny random model for streams of {TINY_TOKENS} tokens",
        streams_per_second=round(report["finished"] / seconds),
        ms_for_half_of_them=round(float(np.quantile(report["ms"], 0.5))),
        ms_for_99_of_100=round(float(np.quantile(report["ms"], 0.99))),
        faults=len(report["faults"]),
    )


def test_a_soak_leaves_nothing_behind(tmp_path):
    seconds, clients, samples = at_length(60, 1800), 200, []
    with served("--max_batch", 16, "--prefix_tokens", PREFIX_TOKENS, *QUIET) as (process, address):
        before, free = counts_when_idle(address), held_alone(process)
        fields = {"clients": clients, "seconds": seconds, "fields": SOAKING, "leaving": 0.1}
        crowd, began = Crowd(address, tmp_path, **fields), monotonic()
        while crowd.is_there:
            samples.append((monotonic() - began, held(process)))
            sleep(0.5)
        report, after = crowd.report(), counts_when_idle(address)
        left_over = held_when_closed(process, free)
    assert left_over.descriptors == free.descriptors
    assert min(report["finished"], report["left"]) > 0
    warm = [(at / 60, now.resident_bytes / 2**20) for at, now in samples if seconds / 2 < at < seconds]
    minutes, mebibytes = np.array(warm).T
    slope = float(np.polyfit(minutes, mebibytes, 1)[0])
    open_at_once = max(now.descriptors for _, now in samples) - free.descriptors
    assert open_at_once >= clients
    assert_counted(before, after, report, "soak")
    record(
        "soak",
        "a soak of 200 open streams leaves no descriptor behind, and memory grows by less than 1 MiB a minute",
        f"{clients} clients of locust for {seconds} s, a tenth of their streams left behind the first event; memory "
        f"is of the second half, with prefixes of {PREFIX_TOKENS} tokens",
        streams_finished=report["finished"],
        left=report["left"],
        faults=len(report["faults"]),
        connections_open_at_once=open_at_once,
        descriptors_left_behind=left_over.descriptors - free.descriptors,
        threads_at_the_end=left_over.threads,
        MiB_a_minute=round(slope, 2),
    )


def assert_counted(before, after, report, kind):
    """Everything accepted came to one of three ends, and no token was told that is not counted."""
    of_idling = 1  # the request that the counts waited for
    accepted = gained(before, after, "request_accepted")
    ends = [now - then for then, now in zip(ended(before), ended(after), strict=True)]
    assert sum(ends) == accepted and ends[2] == 0
    assert ends[0] >= report["finished"] and accepted <= report["finished"] + report["left"] + of_idling
    generated = gained(before, after, "generation_tokens")
    record(
        f"counts after the {kind}",
        "accepted texts are those that finished, were cancelled and failed; tokens of usage are those counted",
        f"the counts of /metrics before and after the {kind}, and all usages that clients were told",
        accepted=int(accepted),
        finished=int(ends[0]),
        cancelled=int(ends[1]),
        failed=int(ends[2]),
        tokens_counted=int(generated),
        in_usages_of_finished_streams=report["completion_tokens"],
    )
    return generated


class Watch(threading.Thread):
    """Reads how many texts wait, again and again, until it is told to stop."""

    def __init__(self, address):
        super().__init__()
        self.most, self.ends, self._address = 0, threading.Event(), address

    def run(self):
        while not self.ends.is_set():
            self.most = max(self.most, int(metrics(self._address)["treewright_num_requests_waiting"]))


def test_four_times_too_many_clients_are_answered_or_told_when_to_come_back(tmp_path):
    seconds, clients = at_length(25, 120), 4 * (MAX_BATCH + MAX_QUEUE)
    with served("--max_batch", MAX_BATCH, "--server.max_queue", MAX_QUEUE, *QUIET) as (_, address):
        before = counts_when_idle(address)
        watch = Watch(address)
        watch.start()
        fields = {"clients": clients, "seconds": seconds, "fields": {"max_tokens": 24}, "pause": 0.5}
        report = Crowd(address, tmp_path, **fields).report()
        watch.ends.set()
        watch.join()
        after = counts_when_idle(address)
    assert min(report["finished"], report["refused"]) > 0
    assert watch.most == MAX_QUEUE
    cut = report["asked"] - report["finished"] - report["refused"]  # of clients that went as they asked
    rejected = gained(before, after, "admission_rejections")
    assert report["refused"] <= rejected <= report["refused"] + cut <= report["refused"] + clients
    generated = assert_counted(before, after, report, "overload")
    assert generated == report["completion_tokens"] + BODY["max_tokens"]  # of the request that the counts waited for
    record(
        "overload",
        "clients beyond those there is room for get 503 with Retry-After and OpenAI's envelope, and the queue keeps "
        "to its limit",
        f"{clients} clients of locust for {seconds} s, where there are {MAX_BATCH} places and {MAX_QUEUE} more may "
        "wait; each asks again half a second after its answer",
        streams_finished=report["finished"],
        answers_of_503=report["refused"],
        other_answers=len(report["faults"]),
        waiting_at_most=watch.most,
        ms_to_the_first_token_for_95_of_100=round(float(np.quantile(report["first_ms"], 0.95))),
    )
