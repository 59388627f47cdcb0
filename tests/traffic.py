"""Requests to a server process as any client sends them, and what the process says of itself."""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

import httpx

BODY = {"model": "reference", "prompt": "def main(", "max_tokens": 4, "seed": 5}
NO_LIMIT = httpx.Timeout(600)


def post(address, **fields):
    return httpx.post(f"{address}/v1/completions", json=BODY | fields, timeout=NO_LIMIT)


def connect(address, text):
    """A connection on which this was sent, as it is."""
    client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    client.sendall(text.encode())
    return client


def request(**fields):
    body = json.dumps(BODY | fields)
    return (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def metrics(address):
    """Every sample by its name and labels."""
    lines = [line for line in httpx.get(f"{address}/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def total(samples, name):
    """A counter over all its labels."""
    return sum(value for key, value in samples.items() if re.fullmatch(rf"treewright_{name}_total(\{{.*\}})?", key))


def gained(before, after, name):
    """By how much a counter has grown."""
    return total(after, name) - total(before, name)


def counts_when_idle(address):
    """The samples once nothing is decoded any more and nothing waits."""
    while (now := metrics(address))["treewright_num_requests_running"] + now["treewright_num_requests_waiting"] > 0:
        pass
    assert post(address).status_code == 200  # behind all that was counted before
    return metrics(address)


def ended(samples):
    """How many texts came to their ends, were cancelled and failed."""
    return [total(samples, f"request_{how}") for how in ("success", "cancelled", "failed")]


def streams(address, count, **fields):
    """What each of so many streams received, one list of events for each, once all have ended."""
    received = [[] for _ in range(count)]

    def read(events):
        body = BODY | {"stream": True} | fields
        with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=NO_LIMIT) as answer:
            events += [line.removeprefix("data: ") for line in answer.iter_lines() if line]

    readers = [threading.Thread(target=read, args=(events,)) for events in received]
    for reader in readers:
        reader.start()
    return received, readers


def wait_until_running(address, count):
    while metrics(address)["treewright_num_requests_running"] < count:
        pass


class Held(NamedTuple):
    """What a process holds."""

    resident_bytes: int
    descriptors: int
    threads: int


def held(process):
    folder = Path(f"/proc/{process.pid}")
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    return Held(int(status["VmRSS"].split()[0]) << 10, len(os.listdir(folder / "fd")), int(status["Threads"]))


def held_alone(process):
    """What it holds without clients: the fewest descriptors of two seconds, for those of clients before are still being
    closed."""
    samples = []
    for _ in range(20):
        samples.append(held(process))
        time.sleep(0.1)
    return min(samples, key=lambda sample: sample.descriptors)


def held_when_closed(process, free):
    """What it holds once the connections of clients that have gone are closed, or after a minute."""
    end = time.monotonic() + 60
    while (now := held(process)).descriptors > free.descriptors and time.monotonic() < end:
        time.sleep(0.1)
    return now
