"""The `serve` command: OpenAI completions over HTTP, until Ctrl-C."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import uvicorn

from ...controller.console import print_json
from ...controller.errors import InputError
from ...controller.ranges import require_between
from ..build import build_decoder
from ..constraints.constrain import Constrainer
from ..constraints.grammars.trial import Limits
from ..decoder import Decoder
from ..pair import Pair, PairConfig, load_pair
from ..prefixes.memory import check_num_tokens
from ..prefixes.store import PrefixTotals
from ..speculation import SpeculationConfig
from ..table_fit import FitTotals
from .access import Access, read_keys
from .address import host_names, listen, url
from .app import create_app
from .config import ServerConfig
from .connections import limited_to, make_room_for
from .inspect.routes import add_inspect
from .lines import LineWriter
from .log import logged
from .request_log import WriteLine
from .running import BuildDecoder
from .served_model import ServedModel
from .server import Server
from .totals import KeepText, Totals
from .worker import Worker

log = logging.getLogger(__name__)

STDERR = 2
MOST_TEXTS = 1024  # decoded together
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
        prefix_tokens: int | None = None,
        record: Path | None = None,
        served_model_name: str | None = None,
        access_log: bool = True,
        inspect: bool = False,
    ) -> None:
        """Answer OpenAI completions and chats over HTTP until Ctrl-C.

        Args:
            pair: The two models
            speculation: Which trees are drafted
            host: Address to listen on; one that others reach needs an API key, see server.key_file
            port: Port to listen on; 0 takes a free one
            max_batch: Texts decoded together
            server: Waiting, access and how it ends
            prefix_tokens: Tokens of texts that are kept so that later prompts which begin alike are not read again; 0
                keeps none, and by default they are 8,192 or what a GiB holds
            record: Folder to keep every text in that was generated to its end, for `treewright collect --relabel`
            served_model_name: The model's name in requests and answers; where none is given, what `pair.target` says
            access_log: Write a line to stderr for every request: when, who, what, status, seconds and its name
            inspect: Show at /inspect how a text is made, step by step
        """
        require_between("max_batch", max_batch, 1, MOST_TEXTS)
        name = pair.target if served_model_name is None else served_model_name
        if not name or not name.isprintable():
            raise InputError(f"requests cannot name a model {name!r}; give a served_model_name that can be printed")
        check_num_tokens(prefix_tokens)
        keys = read_keys(server.key_file, os.environ)
        make_room_for(server.max_connections)
        listener = listen(host, port, has_key=bool(keys))
        totals, fit = Totals(), FitTotals()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a decoder to replace
        with logged(), listener, suppress(KeyboardInterrupt):
            models = load_pair(pair, heads=True)
            with nullcontext() if record is None else open_record(record, models) as keep_text:
                build = partial(build_decoder, models, speculation, fit, max_batch=max_batch)
                prepare = partial(prepare_decoder, max_batch, prefix_tokens, totals.prefixes)
                decoder = build()
                prepare(decoder)
                worker = Worker(
                    decoder,
                    max_batch=max_batch,
                    max_queue=server.max_queue,
                    max_wait=server.max_wait,
                    totals=totals,
                    keep_text=keep_text,
                    prepare=prepare,
                )
                if scales := [f"{scale:g} at T = {at:g}" for at, scale in decoder.theta_scales.items()]:
                    print(f"theta scales: {', '.join(scales)}", file=sys.stderr)
                hosts = (*host_names(host, listener), *server.allowed_hosts)
                model = served_model(models, name)
                access = Access(keys, hosts, server.allowed_origins)
                reads_anew = reloading(worker, build if speculation.selector is not None else None)
                with LineWriter(STDERR) if access_log else nullcontext() as write_line, worker, reads_anew:
                    http = make_server(worker, model, server, access, write_line=write_line, inspects=inspect)
                    print(f"listening on {url(listener)}", file=sys.stderr, flush=True)
                    if inspect:
                        print(f"step by step at {url(listener)}/inspect", file=sys.stderr)
                    http.run(sockets=[listener])
                    ignore_signals()
        ignore_signals()
        print_json({"command": "serve", **asdict(totals), "table_fit": asdict(fit)})

    return serve


def prepare_decoder(max_batch: int, prefix_tokens: int | None, totals: PrefixTotals, decoder: Decoder) -> None:
    """What has to be done before a decoder's first batch; it opens the models, and no other batch may go on then."""
    decoder.prepare(max_batch)
    decoder.keep_prefixes(prefix_tokens, totals)


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


def ignore_signals() -> None:
    """A server that ends says so by its exit code, however often it is told to."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)


def served_model(pair: Pair, name: str) -> ServedModel:
    target, constrainer = pair.target, Constrainer.of(pair, Limits())
    return ServedModel(
        name, pair.tokenizer, constrainer, vocabulary_size=target.vocabulary_size, context_length=target.context_length
    )


def make_server(
    worker: Worker,
    model: ServedModel,
    config: ServerConfig,
    access: Access,
    *,
    write_line: WriteLine | None = None,
    inspects: bool = False,
) -> Server:
    """The HTTP server before a running worker; `write_line` is given one line per request. With `/inspect` if it
    `inspects`."""
    app = create_app(
        worker,
        model,
        access=access,
        read_timeout=config.read_timeout,
        write_line=write_line,
        measures=config.speculation_metrics,
    )
    if inspects:
        add_inspect(app, worker, model)
    http = uvicorn.Config(
        app,
        http=limited_to(config.max_connections),
        lifespan="off",
        ws="none",
        log_level="warning",
        log_config=None,
        access_log=False,
        timeout_keep_alive=config.keep_alive,
    )
    return Server(http, worker, model.constrainer, grace=config.grace, read_timeout=config.read_timeout)
