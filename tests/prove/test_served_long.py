"""A recording server of the reference pair is killed for real: whoever has an answer finds its text in the folder."""

import json
import random
import resource
import threading
import time

import httpx
import pytest
from processes import served, start
from treewright import cli
from treewright.collect.trace import TraceFolder, read_texts

pytestmark = pytest.mark.slow


def ask(address, seeds, answered):
    """Put the seed of every answer that came whole into `answered`, until the server is gone."""
    for seed in seeds:
        body = {"model": "reference", "prompt": "def main(", "max_tokens": 3, "seed": seed}
        try:
            answer = httpx.post(f"{address}/v1/completions", json=body)
        except httpx.HTTPError:
            return
        assert answer.status_code == 200
        answered.append(seed)


def test_texts_are_recorded_again_once_the_disk_has_room(tmp_path):
    answered, path = [], tmp_path / "served"
    with served("--record", path) as (process, address):
        ask(address, range(3), answered)
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, most))  # what a full disk is to the process
        ask(address, range(3, 6), answered)
        assert read_texts(path).table["seed"].to_pylist() == [0, 1, 2]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        seeds = iter(range(6, 100_000))
        while read_texts(path).table.num_rows < 4:
            ask(address, [next(seeds)], answered)
        process.terminate()
        out, _ = process.communicate()
    stored = read_texts(path).table["seed"].to_pylist()
    assert stored[:3] == [0, 1, 2] and stored[3] > 5
    totals = json.loads(out.splitlines()[-1])
    assert (totals["texts_recorded"], totals["texts_unrecorded"]) == (len(stored), len(answered) - len(stored))


def test_no_answered_text_is_lost_when_the_server_is_killed(tmp_path, capsys):
    moments, answered, seeds = random.Random(7), [], iter(range(100_000))
    for _ in range(5):
        process, address = start("--record", tmp_path / "served")
        clients = [threading.Thread(target=ask, args=(address, seeds, answered)) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(moments.uniform(1.0, 6.0))
        process.kill()
        process.communicate()
        for client in clients:
            client.join()
    stored = read_texts(tmp_path / "served").table["seed"].to_pylist()
    assert len(answered) > 64  # some were sealed, some only journaled
    assert set(answered) <= set(stored) and len(stored) == len(set(stored))
    arguments = ["collect", "--relabel", tmp_path / "served", "--out", tmp_path / "traces", "--profile.repeats", "1"]
    assert cli.main([*map(str, arguments), "--draws", "1", "--pair.threads", "1"]) == 0
    traces = TraceFolder.open(tmp_path / "traces")
    assert traces.read("positions").num_rows == 3 * len(stored)
    assert sum(traces.read("texts")["num_ties"].to_pylist()) < 0.01 * traces.read("positions").num_rows
