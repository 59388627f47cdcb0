"""The `serve` command: OpenAI completions over HTTP, until Ctrl-C."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import uvicorn

from ...controller.console import print_json
from ...controller.errors import InputError
from ...controller.ranges import require_at_least
from ..build import build_decoder
from ..pair import Pair, PairConfig, load_pair
from ..speculation import SpeculationConfig
from ..table_fit import FitTotals
from .access import ANY, KEY_VARIABLE, LOOPBACK_NAMES, Access, read_keys
from .app import create_app
from .config import ServerConfig
from .prompts import PromptLimit
from .running import BuildDecoder
from .server import Server
from .totals import KeepText, Totals
from .worker import Worker

log = logging.getLogger(__name__)

OpenRecord = Callable[[Path, Pair], AbstractContextManager[KeepText]]


def serve_command(open_record: OpenRecord) -> Callable[..., None]:
    """The command. `open_record` makes of a folder what keeps texts there: recording is the business of a floor above,
    and the caller that imports both passes it in."""

    def serve(
        pair: PairConfig = PairConfig(),
        speculation: SpeculationConfig = SpeculationConfig(),
        host: str = "127.0.0.1",
        port: int = 8000,
        max_batch: int = 8,
        server: ServerConfig = ServerConfig(),
        record: Path | None = None,
    ) -> None:
        """Answer OpenAI completions over HTTP until Ctrl-C.

        Args:
            pair: The two models
            speculation: Which trees are drafted
            host: Address to listen on; one that others reach needs an API key, see server.key_file
            port: Port to listen on; 0 takes a free one
            max_batch: Texts decoded together
            server: Waiting, access and how it ends
            record: Folder to keep every text in that was generated to its end, for `treewright collect --relabel`
        """
        require_at_least("max_batch", max_batch, 1)
        keys = read_keys(server.key_file, os.environ)
        listener = listen(host, port, has_key=bool(keys))
        totals, fit = Totals(), FitTotals()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with listener, suppress(KeyboardInterrupt):
            models = load_pair(pair, heads=True)
            with nullcontext() if record is None else open_record(record, models) as keep_text:
                build = partial(build_decoder, models, speculation, fit, max_batch=max_batch)
                decoder = build()
                decoder.prepare(max_batch)
                worker = Worker(
                    decoder,
                    max_batch=max_batch,
                    max_queue=server.max_queue,
                    max_wait=server.max_wait,
                    totals=totals,
                    keep_text=keep_text,
                )
                if scales := [f"{scale:g} at T = {at:g}" for at, scale in decoder.theta_scales.items()]:
                    print(f"theta scales: {', '.join(scales)}", file=sys.stderr)
                hosts = server.allowed_hosts or host_names(host, listener)
                http = make_server(worker, models, server, Access(keys, hosts, server.allowed_origins))
                print(f"listening on {url(listener)}", file=sys.stderr, flush=True)
                with worker, reloading(worker, build if speculation.selector is not None else None):
                    http.run(sockets=[listener])
        print_json({"command": "serve", **asdict(totals), "table_fit": asdict(fit)})

    return serve


@contextmanager
def reloading(worker: Worker, build: BuildDecoder | None) -> Iterator[None]:
    """SIGHUP makes the worker go over to the decoder as it is built then; without `build` it does nothing."""

    def reload(*_: object) -> None:
        if build is None:
            log.warning("SIGHUP does nothing without speculation.selector, whose folder it reads anew")
        else:
            worker.replace_decoder(build)

    before = signal.signal(signal.SIGHUP, reload)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def make_server(worker: Worker, pair: Pair, config: ServerConfig, access: Access) -> Server:
    """The HTTP server before a running worker."""
    limit = PromptLimit(pair.tokenizer.vocabulary, pair.target.context_length)

    def encode(text: str) -> list[int]:
        limit.require(len(text))
        return pair.encode(text)

    app = create_app(
        worker,
        encode,
        vocabulary_size=pair.target.vocabulary_size,
        model_name=pair.config.target,
        access=access,
        read_timeout=config.read_timeout,
    )
    http = uvicorn.Config(
        app, lifespan="off", ws="none", log_level="warning", access_log=False, timeout_keep_alive=config.keep_alive
    )
    return Server(http, worker, grace=config.grace, read_timeout=config.read_timeout)


def listen(host: str, port: int, *, has_key: bool = False) -> socket.socket:
    """A socket that has the port, before models are loaded for nothing; InputError where there is none to have, or
    where others would reach it without a key."""
    if not 0 <= port <= 65535:
        raise InputError(f"port is between 0 and 65535, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r} has no address here ({error}); use 127.0.0.1") from error
    if not (has_key or ip_of(str(address[0])).is_loopback):
        raise InputError(
            f"host {host!r} is not a loopback address, and others are served with an API key only; give keys as "
            f"server.key_file or in the environment as {KEY_VARIABLE}, or use 127.0.0.1"
        )
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"port {port} on {host} is not available ({reason}); stop what listens there or choose another port"
        ) from error


def host_names(host: str, listener: socket.socket) -> tuple[str, ...]:
    """What requests may call a server that listens there, for the `host` that was asked for."""
    address = str(listener.getsockname()[0])
    if ip_of(address).is_unspecified:
        return (ANY,)
    return (*LOOPBACK_NAMES, *(f"[{name}]" if ":" in name else name for name in (host, address)))


def ip_of(address: str) -> IPv4Address | IPv6Address:
    """An address without its scope."""
    return ip_address(address.partition("%")[0])


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
