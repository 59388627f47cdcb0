"""The server's log on stderr: each line begins with its time, as those of requests do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime


class Formatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return when(datetime.fromtimestamp(record.created, UTC))


@contextmanager
def logged() -> Iterator[None]:
    """Around the server: what is logged goes to stderr with its time."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(message)s"))
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


def when(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
