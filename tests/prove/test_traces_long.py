"""The long forms of `tests/collect/test_trace_faults.py`, and a collector of the reference pair killed for real."""

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest
import rows
from treewright.collect.trace import TABLES, TraceFolder

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow
COLLECT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import conftest
from treewright import cli
sys.exit(cli.main(["collect", "--pair.threads", "1", "--prompts.limit", "24", "--texts.max_tokens", "16",
                   "--profile.repeats", "1", "--batch", "2", "--out", *sys.argv[1:]]))
"""


def test_two_hundred_kills(memory):
    killing = [sys.executable, ROOT / "killing.py", memory / "traces", "200", "7"]
    report = json.loads(subprocess.run(killing, capture_output=True, text=True, check=True).stdout)
    assert report["lost"] == 0
    assert report["texts"] > 200
    assert rows.contents(TraceFolder.open(memory / "traces")) == rows.expected(report["texts"])


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_a_thousand_damages(finished, memory):
    refused = faults.count_refusals(memory / "traces", memory / "copy", finished, rounds=1000, seed=7)
    assert 500 < refused <= 1000


def collector(out: Path, **options) -> subprocess.Popen:
    arguments = [sys.executable, "-c", COLLECT, str(ROOT), str(out)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(out: Path) -> dict[str, list[dict]]:
    """The rows of a collection run to its end; the time a text took is no two times the same."""
    process = collector(out)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    folder = TraceFolder.open(out)
    return {
        table: folder.read(table, [name for name in TABLES[table].names if name != "decode_ms"]).to_pylist()
        for table in TABLES
    }


def test_a_collector_of_the_reference_pair_killed_ten_times_writes_what_an_undisturbed_one_does(tmp_path):
    whole = finished(tmp_path / "whole")
    moments = random.Random(7)
    for _ in range(10):
        process = collector(tmp_path / "killed")
        while process.poll() is None and not (tmp_path / "killed" / "manifest.json").exists():
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 8.0))
        process.kill()
        process.communicate()
    assert finished(tmp_path / "killed") == whole


def test_a_disk_that_takes_no_more_is_one_sentence_and_the_run_resumes(tmp_path):
    """A real refusal of the kernel: files may not grow beyond eight kilobytes."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    process = collector(tmp_path / "traces", preexec_fn=small_files)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert "cannot be written (File too large)" in complaint.splitlines()[-1]
    assert "Traceback" not in complaint
    assert len(finished(tmp_path / "traces")["texts"]) == 24
