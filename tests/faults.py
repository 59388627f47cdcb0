"""What disks do: the n-th operation fails, a bit flips, a file ends early."""

import errno
import os
import random
import shutil
from pathlib import Path

import rows
from treewright.collect.trace import TraceFolder
from treewright.controller.errors import InputError

NUM_TEXTS = 5
SHARD_TEXTS = 2
COUNTED = ("open", "write", "fsync", "replace", "unlink", "makedirs")


class FailingOs:
    """The `os` module, whose n-th changing call fails; a failing write leaves half of its bytes behind."""

    def __init__(self, failing: int, error: int):
        self.calls = 0
        self._failing, self._error = failing, error

    def __getattr__(self, name):
        real = getattr(os, name)
        return self._counted(name, real) if name in COUNTED else real

    def _counted(self, name, real):
        def call(*arguments, **keywords):
            self.calls += 1
            if self.calls != self._failing:
                return real(*arguments, **keywords)
            if name == "write":
                descriptor, content = arguments
                real(descriptor, content[: len(content) // 2])
            raise OSError(self._error, os.strerror(self._error))

        return call


class FullOs:
    """The `os` module on a full disk."""

    def __getattr__(self, name):
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return getattr(os, name)


def write_folder(path: Path, finish: bool) -> int:
    """A folder with shards and an attached file, unfinished with one more text in its journal; its number of texts."""
    with TraceFolder.create(path, rows.header(), SHARD_TEXTS) as folder:
        if "latency.json" not in folder.files:
            folder.attach("latency.json", b"{}")
        rows.fill(folder, NUM_TEXTS)
        if finish:
            folder.finish()
    return NUM_TEXTS


def damage(path: Path, choice: random.Random) -> str:
    """Flip one bit of one file of the folder, or cut the file short; returns what was done."""
    files = sorted(file for file in path.iterdir() if file.stat().st_size)
    file = choice.choice(files)
    content = bytearray(file.read_bytes())
    index = choice.randrange(len(content))
    if choice.random() < 0.5:
        bit = choice.randrange(8)
        content[index] ^= 1 << bit
        file.write_bytes(content)
        return f"{file.name}: byte {index}, bit {bit} flipped"
    file.write_bytes(content[:index])
    return f"{file.name}: cut after {index} bytes"


def count_refusals(path: Path, scratch: Path, finished: bool, rounds: int, seed: int) -> int:
    """Damage copies of a folder at random; each is refused in one sentence or gives exactly the rows it should."""
    write_folder(path, finish=finished)
    choice = random.Random(seed)
    refusals = []
    for _ in range(rounds):
        shutil.copytree(path, scratch)
        what = damage(scratch, choice)
        try:
            if not finished:
                write_folder(scratch, finish=True)
            folder = TraceFolder.open(scratch)
            assert rows.contents(folder) == rows.expected(NUM_TEXTS), what
            assert (scratch / "latency.json").read_bytes() == b"{}", what
        except InputError as error:
            refusals.append(str(error))
        shutil.rmtree(scratch)
    assert not any("\n" in refusal for refusal in refusals)
    return len(refusals)
