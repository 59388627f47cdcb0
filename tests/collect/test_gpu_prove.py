"""The script for devices, run without one: the same code, uncaptured."""

import pytest
import tiny
import torch
from treewright.collect.measure.gpu_prove.checks import captures_rightly, generates_plain_texts
from treewright.collect.measure.gpu_prove.command import ProofConfig, gpu_prove
from treewright.collect.measure.gpu_prove.times import NODES, WIDTHS, random_pair, score_times, step_times
from treewright.controller.errors import InputError


def test_its_checks_hold():
    assert captures_rightly(tiny.pair())
    assert generates_plain_texts(tiny.pair())


def test_every_part_of_a_step_is_timed_against_a_plain_one():
    times = list(step_times(random_pair("tiny", "tiny", "cpu", "float32"), 32, 1, bytes_per_second=1e9))
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


def test_an_unknown_shape_is_refused_by_name():
    assert ProofConfig().target == "8B"
    with pytest.raises(InputError, match="'9B' is none of tiny, 1B, 8B"):
        random_pair("9B", "tiny", "cpu", "float32")
