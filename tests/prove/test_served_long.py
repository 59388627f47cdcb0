"""A recording server of the reference pair is killed for real: whoever has an answer finds its text in the folder."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from treewright import cli
from treewright.collect.trace import TraceFolder, read_texts

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow
SERVE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import conftest
from treewright import cli
cli.main(["serve", "--port", "0", "--pair.threads", "1", "--speculation.tree", "[(0,), (0, 0)]",
          "--record", *sys.argv[1:]])
"""


def server(folder):
    """The process, and where it listens."""
    arguments = [sys.executable, "-c", SERVE, str(ROOT), str(folder)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("listening on "):
            return process, line.split()[-1]
    raise AssertionError("the server has not started")


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
        process, address = server(tmp_path / "served")
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
