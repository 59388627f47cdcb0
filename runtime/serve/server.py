"""The HTTP server: uvicorn's, which cuts off clients that stall, and on a signal drains before it ends."""

import asyncio
import logging
import socket
from time import monotonic
from types import FrameType
from typing import Any, Protocol, cast

import uvicorn

from ..constraints.constrain import Constrainer
from .worker import Worker

LAST_SECONDS = 10.0  # for the last step to end, and the last words to reach their clients

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """The first signal lets what was accepted end within `grace` seconds, while /health and new requests get 503; the
    second ends everything at once."""

    def __init__(
        self, config: uvicorn.Config, worker: Worker, constrainer: Constrainer, *, grace: float, read_timeout: float
    ):
        super().__init__(config)
        self._worker = worker
        self._constrainer = constrainer
        self._grace = grace
        self._deadline: float | None = None  # once a signal has come
        self._stalled = StalledConnections(read_timeout)

    @property
    def _connections(self) -> "set[Connection]":
        return cast("set[Connection]", self.server_state.connections)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        is_asked = await super().on_tick(counter)
        self._stalled.cut_off(self._connections)
        if not is_asked:
            return False
        if self._deadline is None:
            self._deadline = monotonic() + self._grace
            self._worker.drain()
            self._constrainer.close()  # what it would be asked for is taken no more
            log.warning("stopping: requests have %g s to end; a second signal ends them at once", self._grace)
        return self.force_exit or self._worker.has_ended or monotonic() > self._deadline

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.stop()
        self._constrainer.close()
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in [*self._connections]:
            if _is_sending(connection):  # what it asks for is not to be answered any more
                connection.transport.abort()
            connection.shutdown()
        await self._wait_for_answers(though_forced=False)
        for connection in [*self._connections]:
            connection.transport.abort()
        await self._wait_for_answers(though_forced=True)  # to see that their clients are gone

    async def _wait_for_answers(self, *, though_forced: bool) -> None:
        latest = monotonic() + LAST_SECONDS
        while (self._connections or self.server_state.tasks) and monotonic() < latest:
            if self.force_exit and not though_forced:
                return
            await asyncio.sleep(0.02)


class Connection(Protocol):
    """What uvicorn's protocols for HTTP have in common."""

    cycle: Any  # the request being answered or answered last; None before the first
    flow: Any
    transport: asyncio.Transport
    timeout_keep_alive_task: asyncio.TimerHandle | None  # while the next request has not begun

    def shutdown(self) -> None: ...


class StalledConnections:
    """Cuts off the connections whose client for `timeout` seconds neither ends the head of a request nor reads its
    answer; uvicorn waits for them as long as they like."""

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._since: dict[Connection, float] = {}

    def cut_off(self, connections: set[Connection]) -> None:
        now = monotonic()
        self._since = {each: self._since.get(each, now) for each in connections if _is_stalled(each)}
        for connection, since in self._since.items():
            if now - since > self._timeout:
                connection.transport.abort()


def _is_sending(connection: Connection) -> bool:
    """Whether the client has yet to send the rest of a request's body."""
    cycle = connection.cycle
    return cycle is not None and cycle.more_body and not cycle.response_complete


def _is_stalled(connection: Connection) -> bool:
    is_between = connection.cycle is None or connection.cycle.response_complete
    return connection.flow.write_paused or (is_between and connection.timeout_keep_alive_task is None)
