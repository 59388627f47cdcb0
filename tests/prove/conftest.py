"""Selectors price their steps by a latency table of this machine, which the server processes are given."""

import pytest
from treewright import cli

SIZES = ("--sizes.repeats", "3", "--sizes.nodes", "[0, 4, 16]", "--sizes.widths", "[1, 4]", "--sizes.contexts", "[64]")


@pytest.fixture(scope="session")
def profiled():
    assert cli.main(["profile", "--pair.threads", "1", "--sizes.batches", "[1, 4]", *SIZES]) == 0
