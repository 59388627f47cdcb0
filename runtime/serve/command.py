"""The `serve` command: OpenAI completions on a loopback port, until Ctrl-C."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from ...controller.console import print_json
from ...controller.errors import InputError
from ..build import build_decoder
from ..decoder import Decoder
from ..pair import Pair, PairConfig, load_pair
from ..speculation import SpeculationConfig
from ..table_fit import FitTotals
from .app import create_app
from .inspect.routes import add_inspect
from .worker import KeepText, Totals, Worker

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
        max_queue: int = 64,
        record: Path | None = None,
        inspect: bool = False,
    ) -> None:
        """Answer OpenAI completions over HTTP until Ctrl-C.

        Args:
            pair: The two models
            speculation: Which trees are drafted
            host: Loopback address to listen on
            port: Port to listen on; 0 takes a free one
            max_batch: Texts decoded together
            max_queue: Requests that may wait behind those; more are answered with 503
            record: Folder to keep every text in that was generated to its end, for `treewright collect --relabel`
            inspect: Show at /inspect how a text is made, step by step
        """
        if min(max_batch, max_queue) < 1:
            raise InputError(f"max_batch and max_queue are at least 1, got {max_batch} and {max_queue}")
        listener = listen(host, port)
        totals, fit = Totals(), FitTotals()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with listener, suppress(KeyboardInterrupt):
            models = load_pair(pair, heads=True)
            with nullcontext() if record is None else open_record(record, models) as keep_text:
                decoder = build_decoder(models, speculation, fit, max_batch=max_batch)
                decoder.prepare(max_batch)
                worker = Worker(decoder, max_batch=max_batch, max_queue=max_queue, totals=totals, keep_text=keep_text)
                if scales := [f"{scale:g} at T = {at:g}" for at, scale in decoder.theta_scales.items()]:
                    print(f"theta scales: {', '.join(scales)}", file=sys.stderr)
                with worker:
                    run(worker, models, listener, decoder if inspect else None)
        print_json({"command": "serve", **asdict(totals), "table_fit": asdict(fit)})

    return serve


def run(worker: Worker, pair: Pair, listener: socket.socket, inspected: Decoder | None = None) -> None:
    """Answer what comes in on the socket until the server is asked to stop. With the worker's decoder as `inspected`,
    there is `/inspect`."""
    app = create_app(worker, pair.encode, vocabulary_size=pair.target.vocabulary_size, model_name=pair.config.target)
    if inspected is not None:
        add_inspect(app, worker, lambda: inspected.parts, pair.encode, model_name=pair.config.target)
        print(f"step by step at {url(listener)}/inspect", file=sys.stderr)
    server = Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False), worker)
    print(f"listening on {url(listener)}", file=sys.stderr, flush=True)
    server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that has the port, before models are loaded for nothing; InputError where there is none to have."""
    if not 0 <= port <= 65535:
        raise InputError(f"port is between 0 and 65535, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r} has no address here ({error}); use 127.0.0.1") from error
    if not ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise InputError(
            f"host {host!r} is not a loopback address, and others are only served with authentication, which a later "
            "version brings; use 127.0.0.1"
        )
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"port {port} on {host} is not available ({reason}); stop what listens there or choose another port"
        ) from error


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Ends the requests being decoded when it is asked to stop; uvicorn alone would first wait for them."""

    def __init__(self, config: uvicorn.Config, worker: Worker):
        super().__init__(config)
        self._worker = worker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.stop()
        await super().shutdown(sockets)
