"""Selectors price their steps by a latency table of this machine, which the server processes are given."""

import pytest
from treewright import cli

SIZES = (
    "--sizes.repeats", "3", "--sizes.batches", "[1, 4]", "--sizes.nodes", "[0, 4, 16]", "--sizes.widths", "[1, 4]",
    "--sizes.contexts", "[64]",
)  # fmt: skip


@pytest.fixture(scope="session")
def profiled():
    for dtype in ("float32", "float64"):
        assert cli.main(["profile", "--pair.threads", "1", "--pair.dtype", dtype, *SIZES]) == 0
