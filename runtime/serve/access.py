"""Who may ask: API keys, the names that the server goes by, and the pages of other sites.

A page of any site can make a name of its own point at a loopback address (DNS rebinding), and its browser then sends
requests here; so a request has to name this server as it is called.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ...controller.errors import InputError
from .errors import ServeError, error_answer
from .request_log import REQUEST_ID

KEY_VARIABLE = "TREEWRIGHT_API_KEY"
# As routed, character by character; all else is behind the key. The page of `/inspect` asks for one itself.
OPEN_PATHS = frozenset({"/health", "/ready", "/inspect"})
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"
CALLER = "caller"


def read_keys(key_file: Path | None, environment: Mapping[str, str]) -> list[str]:
    """The keys of the environment and of a file with one a line; InputError for what is no key, or where none is."""
    sources: dict[str, list[str]] = {}
    if (value := environment.get(KEY_VARIABLE)) is not None:
        sources[KEY_VARIABLE] = value.replace(",", " ").split()
    if key_file is not None:
        try:
            lines = key_file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"key file {key_file} is not UTF-8 text ({error}); put one key in each line") from error
        sources[f"key file {key_file}"] = [line.strip() for line in lines if line.strip()]
    for source, keys in sources.items():
        if not keys:
            raise InputError(f"{source} holds no key; put at least one there, or leave it out")
        if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
            raise InputError(
                f"{source} holds a key with spaces or beyond ASCII, which no header can carry; choose another, and "
                "leave out what is no key"
            )
    return [key for keys in sources.values() for key in keys]


class Access(NamedTuple):
    """Who may ask; without `keys` anyone who calls the server by one of its `hosts`."""

    keys: Sequence[str] = ()
    hosts: Collection[str] = (ANY,)
    origins: Sequence[str] = ()  # whose pages may read answers

    def guard(self, app: FastAPI) -> None:
        """Let no other request reach the application."""
        if self.keys:
            app.add_middleware(KeyCheck, keys=self.keys)
        if self.origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=self.origins,
                allow_methods=("GET", "POST"),
                allow_headers=(ANY,),
                expose_headers=("Retry-After", REQUEST_ID),
            )
        if ANY not in self.hosts:
            app.add_middleware(HostCheck, hosts=self.hosts)


def caller_of(http: Request) -> str:
    """Who asks, by the API key; all are one where there are no keys."""
    return getattr(http.state, CALLER, "")


class KeyCheck:
    """Middleware: `Authorization: Bearer KEY`, compared in a time that says nothing about the keys."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]):
        self._app = app
        self._hashes = [_hash(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS:
            return await self._app(scope, receive, send)
        if (caller := self._caller(Headers(scope=scope).getlist("authorization"))) is not None:
            scope.setdefault("state", {})[CALLER] = caller
            return await self._app(scope, receive, send)
        message = "this server needs one of its API keys, as the header `Authorization: Bearer KEY`"
        headers = {"WWW-Authenticate": "Bearer"}
        error = ServeError(HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key", headers=headers)
        return await error_answer(error)(scope, receive, send)

    def _caller(self, authorization: Sequence[str]) -> str | None:
        """A name for whoever has the key, of no use to others; None without a known key."""
        if len(authorization) != 1:
            return None
        scheme, _, key = authorization[0].partition(" ")
        given = _hash(key.strip().encode("latin-1"))  # as headers are decoded
        matches = [hmac.compare_digest(given, known) for known in self._hashes]
        return given.hex() if scheme.lower() == "bearer" and any(matches) else None


class HostCheck:
    """Middleware: the Host header names this server."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]):
        self._app = app
        self._hosts = frozenset(map(str.lower, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or host_name(Headers(scope=scope).get("host", "")) in self._hosts:
            return await self._app(scope, receive, send)
        message = (
            "the Host header names another server; ask for this one by its name, or list that in --server.allowed_hosts"
        )
        error = ServeError(HTTPStatus.MISDIRECTED_REQUEST, message, code="host_not_allowed")
        return await error_answer(error)(scope, receive, send)


def host_name(host: str) -> str:
    """A Host header without its port, in small letters."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() and (name.endswith("]") or ":" not in name) else host).lower()


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
