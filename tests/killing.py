"""A collector that is killed: `python killing.py FOLDER KILLS SEED` appends toy texts in a child process and kills it
with SIGKILL at random moments; each next child resumes, the last one finishes. Prints what it saw as JSON."""

import json
import os
import random
import signal
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARD_TEXTS = 3
LONGEST_S = 0.15  # a child lives at most that long, and some dozen appends fit


def main(folder: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    rows.expected(1)  # what Arrow imports on its first use, every child would import again
    acknowledged, lost, in_flight = 0, 0, 0
    for _ in range(kills):
        resumed, reached = life(folder, moments.uniform(0.0, LONGEST_S))
        if resumed is not None:
            lost += max(0, acknowledged - resumed)
            in_flight += max(0, resumed - acknowledged)
            acknowledged = reached
    resumed, reached = life(folder, None)
    assert resumed is not None
    lost += max(0, acknowledged - resumed)
    print(json.dumps({"kills": kills, "texts": reached, "lost": lost, "written_but_unacknowledged": in_flight}))


def life(folder: Path, seconds: float | None) -> tuple[int | None, int]:
    """(texts a child found on resuming, texts acknowledged when it ended); None where it died before it resumed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        collect(folder, write, finish=seconds is None)
        os._exit(0)
    os.close(write)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(read) as lines:
        counts = [int(line) for line in lines]
    _, status = os.waitpid(child, 0)
    assert status == (0 if seconds is None else signal.SIGKILL), status
    return (counts[0], counts[-1]) if counts else (None, 0)


def collect(folder: Path, pipe: int, finish: bool) -> None:
    with TraceFolder.create(folder, rows.header(), SHARD_TEXTS) as traces:
        os.write(pipe, b"%d\n" % traces.num_texts)
        while not finish:
            traces.append(rows.typed(rows.of_text(traces.num_texts)))
            os.write(pipe, b"%d\n" % traces.num_texts)
        traces.finish()


if __name__ == "__main__":
    spec = spec_from_file_location("treewright", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["treewright"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["treewright"])
    import rows
    from treewright.collect.trace import TraceFolder

    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
