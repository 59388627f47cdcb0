"""A real server process of the reference pair."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SERVE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import conftest
from treewright import cli
sys.exit(cli.main(["serve", "--port", "0", "--pair.threads", "1", "--speculation.tree", "[(0,), (0, 0)]",
                   *sys.argv[1:]]))
"""


class Served(NamedTuple):
    process: subprocess.Popen[str]
    address: str


def start(*arguments: object) -> Served:
    """The process, once it listens."""
    command = [sys.executable, "-c", SERVE, str(Path(__file__).parent), *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("listening on "):
            return Served(process, line.split()[-1])
    raise AssertionError("the server has not started")


@contextmanager
def served(*arguments: object) -> Iterator[Served]:
    """A process that is killed in the end, if it still runs."""
    server = start(*arguments)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
