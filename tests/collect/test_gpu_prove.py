"""The script for devices, run without one: the same code, uncaptured."""

import json
import re
from pathlib import Path

import plans
import pytest
import tiny
import torch
from treewright.collect.measure.bench.policies import Job
from treewright.collect.measure.gpu_prove.checks import captures_rightly, generates_plain_texts
from treewright.collect.measure.gpu_prove.command import ProofConfig, gpu_prove
from treewright.collect.measure.gpu_prove.decoding import compare, watch
from treewright.collect.measure.gpu_prove.times import NODES, WIDTHS, score_times, step_times
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.errors import InputError
from treewright.runtime.build import plain_decoder
from treewright.runtime.pair_config import reference_folder
from treewright.runtime.sampling import Sampling


def test_its_checks_hold():
    assert captures_rightly(tiny.pair())
    assert generates_plain_texts(tiny.pair())


def test_every_part_of_a_step_is_timed_against_a_plain_one():
    times = list(step_times(tiny.pair(), 32, 1, bytes_per_second=1e9))
    assert len(times) == len(NODES) + len(WIDTHS) + 3
    assert times[0].x_plain == 1.0
    assert all(time.ms > 0 for time in times)


def test_the_selector_is_asked_on_the_host_and_on_the_device():
    ways = score_times(torch.device("cpu"), 1)
    assert [*ways] == ["numpy, on the host", "ONNX Runtime, on the host", "torch, on cpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so():
    with pytest.raises(InputError, match="no CUDA device"):
        gpu_prove()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"size": "9b"}, "proof.size is small or one of 100m, 1b, 8b, got '9b'"),
        ({"device": "tpu"}, "device is cpu, cuda or cuda:N, got 'tpu'"),
        ({"dtype": "float99"}, "dtype is one of"),
        ({"contexts": ()}, "proof.contexts names nothing"),
        ({"contexts": (70_000,)}, "proof.contexts is between 1 and 32768, got 70000"),
        ({"batches": (0,)}, "proof.batches is between 1 and 256, got 0"),
        ({"repeats": 0}, "proof.repeats is at least 1, got 0"),
        ({"rounds": 1}, "proof.rounds is at least 2, got 1"),
        ({"max_tokens": 0}, "proof.max_tokens is between 2 and 512, got 0"),
        ({"temperature": -3.0}, "proof.temperature"),
        ({"out": Path("/nowhere/report.json")}, "/nowhere/report.json cannot be written"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_refused_by_name_before_anything_runs(fields, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        ProofConfig(**fields)


def test_ways_of_decoding_are_compared_and_watched_batch_by_batch():
    pair, checkpoint, table = tiny.pair(), Checkpoint.from_pretrained(reference_folder() / "selector"), plans.TABLE
    jobs = [Job([1, 2, 3 + number], 4, Sampling(seed=number), "") for number in range(3)]
    rows = compare(pair, checkpoint, table, jobs, batch=2, rounds=2)
    assert [row.way for row in rows] == ["plain", "chain", "best-first tree", "learned"]
    assert all(row.tokens_per_second > 0 for row in rows)
    assert rows[0].block_efficiency == rows[0].speed_up == 1.0
    watched = watch(plain_decoder(pair), [job._replace(max_tokens=60) for job in jobs])
    assert (watched.batch, watched.waits, watched.levels) == (3, 0.0, 0.0)
    assert watched.ms > 0


@pytest.mark.slow
def test_its_short_form_runs_without_a_device(capsys):
    short = ProofConfig(
        device="cpu", size="small", dtype="float32", contexts=(16,), repeats=1, batches=(1, 2), rounds=2, max_tokens=4
    )
    assert gpu_prove(short) == 0
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    ways = [(row["batch"], row["way"]) for row in report["decoding"]]
    assert ways == [(batch, way) for batch in (1, 2) for way in ("plain", "chain", "best-first tree", "learned")]
    assert [row["batch"] for row in report["steps"]] == [1, 2]
    assert all(report["checks"].values())
