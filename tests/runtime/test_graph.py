"""Captured functions give what they would give uncaptured; what cannot be captured runs as it is."""

import gc
import logging

import pytest
import torch
from treewright.runtime.engines.transformers.graph import Graphs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ROWS, SIZE = 8, 16


class Doubling:
    """A function of an input at a fixed address, which counts its calls."""

    def __init__(self, num_rows, source):
        self.num_rows, self.source, self.num_calls = num_rows, source, 0

    def __call__(self):
        self.num_calls += 1
        rows = self.source[: self.num_rows]
        return rows * 2, rows.sum(dim=1, keepdim=True)


@pytest.fixture
def source():
    return torch.arange(float(ROWS * SIZE), device="cuda").view(ROWS, SIZE)


@pytest.fixture
def graphs():
    return Graphs(torch.device("cuda"), ROWS)


def assert_doubled(results, rows):
    assert torch.equal(results[0], rows * 2) and torch.equal(results[1], rows.sum(dim=1, keepdim=True))


def test_a_graph_replays_the_function_with_the_numbers_of_the_day(source, graphs):
    functions = {count: Doubling(count, source) for count in (ROWS, 3, 5)}
    for round_number in range(3):
        source.add_(round_number)
        for count, function in functions.items():
            assert_doubled(graphs.run(count, function), source[:count])
    assert [function.num_calls for function in functions.values()] == [2, 2, 2]  # to set up, and to be captured


def test_after_a_clear_functions_are_captured_again_at_new_addresses(source, graphs):
    """A memory pool ends with its last graph, and using it again would end the process."""
    for offset in range(3):
        moved = source + offset
        function = Doubling(ROWS, moved)
        for _ in range(2):
            moved.add_(1)
            assert_doubled(graphs.run("whole", function), moved)
        assert function.num_calls == 2
        graphs.clear()
        gc.collect()
        torch.cuda.empty_cache()


@pytest.mark.parametrize("captured_before", [False, True])
def test_a_function_that_waits_for_the_device_runs_uncaptured_after_one_warning(
    source, graphs, caplog, captured_before
):
    doubling = Doubling(ROWS, source)
    if captured_before:
        graphs.run("doubling", doubling)

    def waiting():
        return (source[: int(source.min().item()) + 2] * 3,)

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (rows,) = graphs.run("waiting", waiting)
            assert torch.equal(rows, source[:2] * 3)
        source.add_(1)
        assert_doubled(graphs.run("doubling", doubling), source)
    assert [record.name for record in caplog.records] == ["treewright.runtime.engines.transformers.graph"]
    assert "cannot be captured as a CUDA graph and runs without" in caplog.text
