"""Settings of a server that is left running: how long things wait, who may ask, and how it ends."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...controller.errors import InputError
from ...controller.ranges import require_above, require_at_least
from .access import ANY

HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", re.ASCII)
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d+)?", re.ASCII)


@dataclass(frozen=True)
class ServerConfig:
    max_queue: int = 2048
    """Texts, the prompts of a request times its `n`, that may wait; a request that finds no room is answered with 503
    at once"""
    max_wait: float = 120.0
    """Seconds in which a request's first text has to leave the queue; then the answer is 503"""
    grace: float = 20.0
    """Seconds in which requests may still end after SIGTERM or Ctrl-C; then they end with an error. A second signal
    ends them at once"""
    read_timeout: float = 30.0
    """Seconds that a client has to send the head of a request, and then its body; and the longest that it may leave an
    answer unread"""
    keep_alive: int = 5
    """Seconds that a connection stays open between two requests"""
    max_connections: int = 896
    """Connections that may be open; further ones are told 503 and closed. With 128 files besides, they have to be
    within the limit of open files (ulimit -n)"""
    key_file: Path | None = None
    """File with one API key per line; others may be in the environment, as TREEWRIGHT_API_KEY. Where there is a key,
    all but /health, /ready and the page /inspect need one"""
    allowed_hosts: tuple[str, ...] = ()
    """Names without port that a request may call the server by, `*` for any, besides the address it listens on and the
    loopback names; where it listens on all addresses it takes any name"""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may read answers, such as `https://chat.example.org`, `*` for any (CORS)"""
    speculation_metrics: bool = False
    """Answers of one text say under `metrics.speculative_decoding` what speculation did for it, as those of vLLM; a
    stream in the event that holds the usage"""

    def __post_init__(self) -> None:
        require_at_least("server.max_queue", self.max_queue, 1)
        require_above("server.max_wait", self.max_wait, 0)
        require_at_least("server.grace", self.grace, 0)
        require_above("server.read_timeout", self.read_timeout, 0)
        require_at_least("server.keep_alive", self.keep_alive, 0)
        require_at_least("server.max_connections", self.max_connections, 1)
        for host in self.allowed_hosts:
            if host != ANY and not HOST.fullmatch(host):
                raise InputError(f"server.allowed_hosts are names or addresses without scheme and port, got {host!r}")
        for origin in self.allowed_origins:
            if origin != ANY and not ORIGIN.fullmatch(origin):
                raise InputError(
                    f"server.allowed_origins are like https://name or http://name:8080, in small letters and without a "
                    f"path, got {origin!r}"
                )
