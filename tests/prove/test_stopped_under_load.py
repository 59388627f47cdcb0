"""A server that is stopped before a hundred live streams: those that can end do, and the rest are told."""

import json
import signal
import time

import pytest
from processes import served
from proofs import at_length, record
from traffic import metrics, streams, total, wait_until_running

pytestmark = pytest.mark.slow
LONG, SHORT = 60, 40  # streams of 300 tokens, and of 4
GRACE = 8


def test_sigterm_ends_a_hundred_live_streams_and_the_process():
    rounds, finished, told, seconds = at_length(1, 5), 0, 0, []
    for _ in range(rounds):
        with served("--server.grace", GRACE, "--max_batch", LONG + SHORT, "--access_log", "false") as (
            process,
            address,
        ):
            received, readers = streams(address, LONG, max_tokens=300)
            wait_until_running(address, LONG)
            of_short, readers_of_short = streams(address, SHORT, max_tokens=4)
            while total(metrics(address), "request_accepted") < LONG + SHORT:
                pass
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            for reader in readers + readers_of_short:
                reader.join()
            process.communicate(timeout=60)
            seconds.append(time.monotonic() - asked)
            assert process.returncode == 0
        assert all(events[-1] == "[DONE]" for events in received + of_short)
        ends = [json.loads(events[-2]) for events in received + of_short]
        reasons = [end["choices"][0]["finish_reason"] for end in ends if "error" not in end]
        assert set(reasons) <= {"length"}
        finished, told = finished + len(reasons), told + len(ends) - len(reasons)
    record(
        "SIGTERM",
        "on SIGTERM every live stream finishes or ends with an error event, and the exit code is 0",
        f"{rounds} {'servers' if rounds > 1 else 'server'} with {LONG + SHORT} streams accepted, {LONG} of them of "
        f"more tokens than a grace of {GRACE} s is enough for",
        streams_finished=finished,
        ended_with_an_error_event=told,
        ended_otherwise=rounds * (LONG + SHORT) - finished - told,
        seconds_to_the_exit_at_most=round(max(seconds), 1),
    )
