"""Selectors that are damaged while a server decodes with them: refused in a sentence or without effect on any text."""

import shutil
import signal

import numpy as np
import pytest
from checkpoints import damaged, reseal
from processes import served
from proofs import at_length, record
from traffic import held, post
from treewright.runtime.pair_config import reference_folder

pytestmark = pytest.mark.slow
REFUSED, TAKEN = "what was read anew is refused", "decoding goes on with what was read anew"


def outcome(process):
    """The line by which the server says what became of the selector that it was told to read."""
    for line in process.stderr:
        if REFUSED in line or TAKEN in line:
            return line
    raise AssertionError("the server has gone")


def test_a_server_outlives_damaged_selectors(tmp_path, profiled):
    count, generator, lines, changed = at_length(60, 400), np.random.default_rng(1), [], 0
    folder = tmp_path / "selector"
    shutil.copytree(reference_folder() / "selector", folder)
    intact = (folder / "model.onnx").read_bytes()
    texts = [{"seed": seed, "max_tokens": 12, "temperature": seed / 2} for seed in range(3)]
    with served("--pair.dtype", "float64", tree="") as (_, address):
        expected = [post(address, **text).json()["choices"] for text in texts]
    options = ("--pair.dtype", "float64", "--speculation.selector", folder, "--access_log", "false")
    with served(*options, tree="") as (process, address):
        before = held(process)
        for number in range(count):
            (folder / "model.onnx").write_bytes(damaged(intact, generator))
            if number % 4:  # as a forger does; without it the hashes give the damage away
                reseal(folder)
            process.send_signal(signal.SIGHUP)
            lines.append(outcome(process))
            text = number % len(texts)
            changed += post(address, **texts[text]).json()["choices"] != expected[text]
        after = held(process)
    assert changed == 0
    refused = sum(REFUSED in line for line in lines)
    assert count // 4 <= refused <= count and not any("Traceback" in line for line in lines)
    record(
        "damaged selectors",
        "a damaged selector is refused in a sentence or changes no text, and the server stays up",
        f"{count} times a bit, a run or the end of the ONNX file of the shipped selector, three of four under "
        "right hashes; SIGHUP, then a text, in float64",
        refused=refused,
        taken_without_effect_on_a_text=count - refused,
        texts_changed=changed,
        MiB_gained=round((after.resident_bytes - before.resident_bytes) / 2**20),
    )
