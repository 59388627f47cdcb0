"""Connections: no more at once than the process has room for, else it could accept none and open no file."""

import asyncio
import logging
import resource
from time import monotonic
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from ...controller.errors import InputError
from .errors import busy, error_answer

OTHER_FILES = 128  # besides connections
SECONDS_BETWEEN_WARNINGS = 60.0

log = logging.getLogger(__name__)


def make_room_for(num_connections: int) -> None:
    """Raise this process's limit of open files where it has to be; InputError where the system does not let it."""
    least = num_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < least:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
        except (ValueError, OSError) as error:
            raise InputError(
                f"server.max_connections {num_connections} takes {least} open files, and the system allows {hard}; "
                "raise its limit (ulimit -n), or ask for fewer"
            ) from error


class Http(H11Protocol):
    """uvicorn's protocol of a connection; one above the `most` is refused, whatever it asks."""

    most: ClassVar[int]
    latest_warning: ClassVar[float] = -SECONDS_BETWEEN_WARNINGS

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._warn()
            transport.write(_refusal())
            transport.close()

    @classmethod
    def _warn(cls) -> None:
        if monotonic() > cls.latest_warning + SECONDS_BETWEEN_WARNINGS:
            cls.latest_warning = monotonic()
            log.warning("%d connections are open, and no more are taken (server.max_connections)", cls.most)


def limited_to(most: int) -> type[Http]:
    return type("Http", (Http,), {"most": most})


def _refusal() -> bytes:
    answer = error_answer(busy("too many connections are open; try again later"))
    lines = (f"{name}: {value}" for name, value in (answer.headers | {"connection": "close"}).items())
    head = "\r\n".join((f"HTTP/1.1 {answer.status_code} Service Unavailable", *lines))
    return head.encode("latin-1") + b"\r\n\r\n" + bytes(answer.body)
