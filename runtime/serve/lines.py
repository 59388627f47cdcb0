"""Lines for stderr, written on a thread of their own: a reader that has stopped reading holds up no request."""

import os
from queue import Full, Queue
from threading import Thread
from typing import Self

MOST_WAITING = 10_000  # lines; more are dropped, and the next one that is not says how many
LAST_SECONDS = 1.0  # for what still waits in the end


class LineWriter:
    """The thread runs inside `with`. It writes past Python's own buffers, whose locks would keep the process from
    ending."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(MOST_WAITING)
        self._num_dropped = 0
        self._thread = Thread(target=self._run, name="lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._lines.full():
            self._lines.put(None)
            self._thread.join(LAST_SECONDS)

    def __call__(self, line: str) -> None:
        """Never waits; called by one thread."""
        dropped = f"({self._num_dropped} lines dropped) " if self._num_dropped else ""
        try:
            self._lines.put_nowait(f"{dropped}{line}\n")
            self._num_dropped = 0
        except Full:
            self._num_dropped += 1

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            content = line.encode()
            try:
                while content:
                    content = content[os.write(self._descriptor, content) :]
            except OSError:  # nobody reads any more
                return
