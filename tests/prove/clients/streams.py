"""Streams that locust asks for, and what became of them, as JSON in the file that REPORT names.

FIELDS are those of each request. LEAVING is the share of the clients that leave a stream after its first event.
"""

import json
import os
import random
from pathlib import Path
from time import monotonic

from locust import HttpUser, constant, events, task

FIELDS = json.loads(os.environ["FIELDS"]) | {"stream": True, "stream_options": {"include_usage": True}}
LEAVING = float(os.environ.get("LEAVING", "0"))
ENVELOPE = {"message", "type", "param", "code"}
report = {
    "asked": 0,
    "finished": 0,
    "left": 0,
    "refused": 0,
    "faults": [],
    "completion_tokens": 0,
    "first_ms": [],
    "ms": [],
}


class Client(HttpUser):
    wait_time = constant(float(os.environ.get("PAUSE", "0")))

    @task
    def stream(self):
        asked = monotonic()
        report["asked"] += 1
        with self.client.post("/v1/completions", json=FIELDS, stream=True, catch_response=True) as answer:
            fault = refusal_fault(answer) if answer.status_code == 503 else stream_fault(answer, asked)
            if fault:
                report["faults"].append(fault)
                answer.failure(fault)
            else:
                answer.success()


def refusal_fault(answer):
    """What is wrong with an answer of 503, if anything."""
    report["refused"] += 1
    if not answer.headers.get("Retry-After", "").isdecimal():
        return "503 without Retry-After"
    if answer.json().keys() != {"error"} or answer.json()["error"].keys() != ENVELOPE:
        return f"503 without OpenAI's envelope: {answer.text}"
    return None


def stream_fault(answer, asked):
    """What is wrong with a stream, if anything."""
    if answer.status_code != 200:
        return f"status {answer.status_code}: {answer.error or answer.text}"
    leaves, ends, usage, line = random.random() < LEAVING, 0, None, b""
    for number, line in enumerate(filter(None, answer.iter_lines())):
        if not number:
            report["first_ms"].append(1e3 * (monotonic() - asked))
        if leaves:
            report["left"] += 1
            answer.close()
            return None
        if line == b"data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix(b"data: "))
        if "error" in chunk:
            return f"a stream ended with {chunk}"
        ends += sum(choice["finish_reason"] is not None for choice in chunk["choices"])
        usage = chunk["usage"] or usage
    if line != b"data: [DONE]" or ends != 1 or usage is None:
        return f"a stream ended with {line}, {ends} reasons and the usage {usage}"
    report["finished"] += 1
    report["completion_tokens"] += usage["completion_tokens"]
    report["ms"].append(1e3 * (monotonic() - asked))
    return None


@events.quitting.add_listener
def write_report(**_):
    Path(os.environ["REPORT"]).write_text(json.dumps(report))
