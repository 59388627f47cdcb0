"""A recording server of the reference pair is killed for real: whoever has an answer finds its text in the folder."""

import random
import threading
import time

import httpx
import pytest
from processes import start
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
