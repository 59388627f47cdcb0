"""Killed, out of space, bit-rotten: no acknowledged row is lost, none is there twice, and no wrong one is read."""

import errno
import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import faults
import pytest
import rows
from treewright.collect.trace import TraceFolder
from treewright.controller import files
from treewright.controller.errors import InputError

KILLING = Path(__file__).resolve().parent.parent / "killing.py"


def kill(folder, kills, seed):
    """Kill a collector at random moments; the report, and the folder it left."""
    output = subprocess.run([sys.executable, KILLING, folder, str(kills), str(seed)], capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout), TraceFolder.open(folder)


def test_a_killed_collector_loses_no_acknowledged_text_and_writes_none_twice(memory):
    report, folder = kill(memory / "traces", 20, seed=1)
    assert report["lost"] == 0
    assert report["texts"] > 20
    assert rows.contents(folder) == rows.expected(report["texts"])


@pytest.mark.parametrize(("error", "begun"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_whichever_operation_fails_the_folder_resumes_whole(error, begun, memory, monkeypatch):
    """The n-th call to the disk fails, for n = 1, 2, ... until a run completes untouched; from nothing and resumed."""
    num_texts = 3 + begun * faults.NUM_TEXTS
    refusals = []
    for failing in count(1):
        path = memory / str(failing)
        acknowledged = 0
        if begun:
            acknowledged = faults.write_folder(path, finish=False)
        monkeypatch.setattr(files, "os", faults.FailingOs(failing, error))
        try:
            with TraceFolder.create(path, rows.header(), faults.SHARD_TEXTS) as folder:
                while folder.num_texts < num_texts:
                    folder.append(rows.typed(rows.of_text(folder.num_texts)))
                    acknowledged = folder.num_texts
                folder.finish()
            break
        except InputError as refusal:
            refusals.append(str(refusal))
        finally:
            monkeypatch.setattr(files, "os", faults.os)
        with TraceFolder.create(path, rows.header(), faults.SHARD_TEXTS) as folder:
            assert acknowledged <= folder.num_texts <= acknowledged + 1
            rows.fill(folder, num_texts)
            folder.finish()
        assert rows.contents(TraceFolder.open(path)) == rows.expected(num_texts)
    assert len(refusals) > 30
    assert all("cannot be written" in refusal and "\n" not in refusal for refusal in refusals)


def test_after_a_refused_write_nothing_more_is_acknowledged(memory, monkeypatch):
    """A whole record behind half a one would be lost."""
    with TraceFolder.create(memory / "traces", rows.header()) as folder:
        folder.append(rows.typed(rows.of_text(0)))
        monkeypatch.setattr(files, "os", faults.FailingOs(1, errno.ENOSPC))
        with pytest.raises(InputError, match="cannot be written"):
            folder.append(rows.typed(rows.of_text(1)))
        with pytest.raises(AssertionError):
            folder.append(rows.typed(rows.of_text(1)))


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_damage_is_refused_or_harmless(finished, memory):
    """A flipped bit or a missing end in shards, journal, manifest or attached file."""
    refused = faults.count_refusals(memory / "traces", memory / "copy", finished, rounds=60, seed=1)
    assert 30 < refused <= 60
