"""The whole server on a socket: no client holds it up, it ends as it is told, and it answers those it should."""

import json
import resource
import signal
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from serving import BODY, Gate, listening, make_decoder
from treewright.controller.errors import InputError
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.access import read_keys
from treewright.runtime.serve.address import host_names, listen
from treewright.runtime.serve.body import MAX_NESTING, nesting
from treewright.runtime.serve.config import ServerConfig
from treewright.runtime.serve.connections import make_room_for
from treewright.runtime.serve.server import StalledConnections

STREAM = BODY | {"stream": True}
HEAD = (
    "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def streamed(client, **fields):
    return client.stream("POST", "/v1/completions", json=STREAM | fields)


def events(answer) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(chunks):
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


@contextmanager
def connected(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        yield client


def raw(address, text):
    """All that comes back for what is sent, up to the end of the connection."""
    with connected(address) as client:
        client.sendall(text.encode("latin-1"))
        answer = b""
        while received := client.recv(65536):
            answer += received
        return answer.decode()


def test_after_a_signal_what_was_accepted_ends_and_nothing_new_is_taken():
    gate = Gate()
    with listening(gate) as (address, server, thread), httpx.Client(base_url=address) as client:
        with streamed(client) as answer:
            assert client.get("/health").status_code == 200
            server.handle_exit(signal.SIGTERM, None)
            while client.get("/health").status_code == 200:
                sleep(0.01)
            refused = client.post("/v1/completions", json=BODY)
            assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
            gate.opened.set()
            *chunks, done = events(answer)
        (stream,), _ = make_decoder().generate([Request([1, 2, 3], 12, Sampling(seed=5))])
        assert text_of(chunks) == stream.text and done == "[DONE]"
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_what_has_not_ended_within_the_grace_ends_with_an_error():
    slowly, lines = lambda record: sleep(0.02), []
    with listening(slowly, ServerConfig(grace=0.0), write_line=lines.append) as (address, server, thread):
        with httpx.Client(base_url=address) as client, streamed(client, max_tokens=250) as answer:
            server.handle_exit(signal.SIGINT, None)
            *_, error, done = events(answer)
        assert "stopping" in error["error"]["message"] and done == "[DONE]"
        thread.join(timeout=20)
        assert not thread.is_alive()
    (line,) = lines
    assert " POST /v1/completions 200 " in line and " s (ended with 503) req-" in line


def test_a_client_that_leaves_before_its_answer_is_no_fault_of_the_server_in_the_log():
    gate, lines = Gate(), []
    with listening(gate, write_line=lines.append) as (address, _, _):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/completions", json=BODY, timeout=0.2)
        gate.opened.set()
        while not lines:
            sleep(0.01)
    assert " POST /v1/completions 499 " in lines[0]


def test_a_second_signal_ends_the_server_at_once():
    slowly = lambda record: sleep(0.02)  # noqa: E731
    with listening(slowly, ServerConfig(grace=600.0)) as (address, server, thread):
        with httpx.Client(base_url=address) as client, streamed(client, max_tokens=250) as answer:
            server.handle_exit(signal.SIGTERM, None)
            server.handle_exit(signal.SIGTERM, None)
            with pytest.raises(httpx.TransportError):
                events(answer)
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_clients_that_stand_still_do_not_keep_the_server_from_ending():
    body = json.dumps(STREAM | {"max_tokens": 200})
    begun = ["", "POST /v1/comp", HEAD % 100 + "{", HEAD % len(body) + body, HEAD % len(body) + body + HEAD % 9]
    with listening() as (address, server, thread):
        clients = [socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) for _ in begun]
        for client, text in zip(clients, begun, strict=True):
            client.sendall(text.encode())
        clients[3].shutdown(socket.SHUT_WR)
        assert clients[4].recv(1) == b"H"
        server.handle_exit(signal.SIGTERM, None)
        thread.join(timeout=20)
        assert not thread.is_alive()
        for client in clients:
            client.close()


def test_connections_beyond_the_most_are_refused_until_others_close(caplog):
    with listening(config=ServerConfig(max_connections=2)) as (address, _, _):
        with connected(address), connected(address):
            for _ in range(2):
                head, body = raw(address, "").split("\r\n\r\n")
                assert head.startswith("HTTP/1.1 503 ") and "retry-after: 1" in head
                assert json.loads(body)["error"]["message"].startswith("too many connections are open")
        while raw(address, "GET /health HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 503 "):
            sleep(0.01)
        assert httpx.post(f"{address}/v1/completions", json=BODY).status_code == 200
    assert sum("connections are open, and no more are taken" in each for each in caplog.messages) == 1


def test_connections_that_the_system_has_no_files_for_are_refused_before_the_start(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 200))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    make_room_for(72)
    assert asked == [(200, 200)]
    monkeypatch.undo()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(InputError, match=r"server\.max_connections \d+ takes \d+ open files, and the system allows"):
        make_room_for(hard)


def test_a_request_that_comes_too_slowly_is_cut_off():
    with listening(config=ServerConfig(read_timeout=0.15)) as (address, _, _):
        assert raw(address, "") == raw(address, "POST /v1/comp") == ""
        answer = raw(address, HEAD % 100 + "{")
        assert answer.startswith("HTTP/1.1 408 ") and "the body did not come within 0.15 s" in answer
        assert httpx.post(f"{address}/v1/completions", json=BODY).status_code == 200


def test_a_prompt_that_is_far_too_long_is_refused_before_it_is_tokenised():
    most = 256 * (len("w39") + 1)  # as one long word, which is unknown, it would be one token
    with listening() as (address, _, _), httpx.Client(base_url=address) as client:
        answer = client.post("/v1/completions", json=BODY | {"prompt": "x" * (most + 1)})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
        assert client.post("/v1/completions", json=BODY | {"prompt": "x" * most}).status_code == 200


@dataclass(eq=False)
class Still:
    """A connection on which nothing happens."""

    cycle: Any = None
    flow: Any = field(default_factory=lambda: SimpleNamespace(write_paused=False))
    timeout_keep_alive_task: Any = None
    aborted: int = 0

    @property
    def transport(self) -> Any:
        return self

    def abort(self):
        self.aborted += 1

    def shutdown(self):
        pass


def test_a_connection_is_cut_off_where_its_client_does_nothing_and_only_there():
    done, busy = SimpleNamespace(response_complete=True), SimpleNamespace(response_complete=False)
    silent, between, working = Still(), Still(cycle=done, timeout_keep_alive_task=object()), Still(cycle=busy)
    half_head, unread = Still(cycle=done), Still(cycle=busy, flow=SimpleNamespace(write_paused=True))
    connections: list[Any] = [silent, between, working, half_head, unread]
    now = StalledConnections(timeout=0.0)
    for _ in range(2):
        now.cut_off(set(connections))
        sleep(0.001)
    assert [each.aborted for each in connections] == [1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        (b"[" * 1000 + b"]" * 1000, 1000),
        (b"[[" * 100 + b"]]" * 100, 200),
        (b'{"a": [{}]},' * 50, 3),
        (b'["' + b"[" * 1000 + b'"]', 1),
        (rb'["\"' + b"[" * 1000 + b'"]', 1),
        (rb'["\\"' + b",[" * 1000, 1001),
        (b'["' + b'\\"[' * 500_000, 1),
        (b"]]]" + b"[" * 100, 97),
    ],
)
def test_nesting_is_counted_outside_strings_in_linear_time(body, depth):
    assert nesting(body) == depth


def test_a_body_that_is_nested_too_deep_is_refused():
    with listening() as (address, _, _):
        body = json.dumps(BODY)[:-1] + ', "metadata": ' + "[" * MAX_NESTING + "]" * MAX_NESTING + "}"
        answer = httpx.post(f"{address}/v1/completions", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and "nested more than 64 deep" in answer.json()["error"]["message"]


KEYS = ["first-key", "second-key"]
ANYONE = ServerConfig(allowed_hosts=("*",))


@pytest.fixture(scope="module")
def locked():
    with listening(config=ANYONE, keys=KEYS) as (address, _, _):
        yield address


def status(address, path, *headers, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return int(raw(address, "\r\n".join([*lines, "", ""])).split()[1])


def test_a_key_opens_every_route_and_health_needs_none(locked):
    for key in KEYS:
        assert status(locked, "/v1/models", f"Authorization: Bearer {key}") == 200
    assert status(locked, "/health") == status(locked, "/%68ealth") == status(locked, "/health?a=/v1/models") == 200
    assert status(locked, "/ready") in (200, 404)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization: Bearer other",),
        ("Authorization: Bearer ",),
        ("Authorization: first-key",),
        ("Authorization: Basic first-key",),
        ("Authorization: Bearer first-key second-key",),
        ("Authorization: Bearer first-ke\xfd",),
        ("Authorization: Bearer first-key", "Authorization: Bearer first-key"),
        ("X-API-Key: first-key",),
    ],
)
def test_without_a_key_nothing_is_answered(locked, headers):
    assert status(locked, "/v1/models", *headers) == 401


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//v1/models",
        "/v1%2fmodels",
        "/v1/models/",
        "/V1/models",
        "/health/",
        "//health",
        "/health/../v1/models",
        "/health%2f..%2fv1/models",
        "/v1/models?path=/health",
        "/v1/models#/health",
        "/health;/v1/models",
        "http://localhost/health",
        "/openapi.json",
        "/metrics",
        "*",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_key(locked, path):
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        assert status(locked, path, method=method) == 401


def test_a_missing_key_is_told_in_the_envelope_before_the_body_is_read(locked):
    answer = httpx.post(f"{locked}/v1/completions", content=b"{")
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_request_for_another_host_is_refused():
    with listening() as (address, _, _), httpx.Client(base_url=address) as client:
        for host in ("localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:80"):
            assert client.get("/health", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "localhost:80:80", "::1", "x@localhost", "localhost/"):
            answer = client.get("/health", headers={"Host": host})
            assert answer.status_code == 421 and answer.json()["error"]["code"] == "host_not_allowed"
        assert raw(address, "GET /health HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 421 ")


def test_only_pages_of_the_allowed_origins_may_ask():
    friend = "https://chat.example"
    config = ServerConfig(allowed_origins=(friend,))
    with listening(config=config, keys=KEYS) as (address, _, _), httpx.Client(base_url=address) as client:
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",  # of OpenAI's client
        }
        url = "/v1/completions"
        allowed = client.options(url, headers=asked | {"Origin": friend}).headers
        assert allowed["Access-Control-Allow-Origin"] == friend
        assert allowed["Access-Control-Allow-Headers"] == asked["Access-Control-Request-Headers"]
        assert client.options(url, headers=asked | {"Origin": "https://evil.example"}).status_code == 400
        answer = client.post(url, json=BODY, headers={"Origin": friend})
        assert answer.status_code == 401 and answer.headers["Access-Control-Allow-Origin"] == friend
        assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After, x-request-id"
        assert "Access-Control-Allow-Origin" not in client.get(url, headers={"Origin": "https://evil.example"}).headers


def test_keys_come_from_the_environment_and_from_a_file(tmp_path):
    (tmp_path / "keys").write_text("one\n\n  two  \n")
    assert read_keys(None, {}) == []
    assert read_keys(tmp_path / "keys", {"TREEWRIGHT_API_KEY": "three, four"}) == ["three", "four", "one", "two"]


@pytest.mark.parametrize("text", ["", "\n", "a b\n", "é\n", "a\tb\n"])
def test_a_source_of_keys_without_a_usable_one_is_refused(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputError, match="key file"):
        read_keys(tmp_path / "keys", {})


@pytest.mark.parametrize("value", ["", " , ", "é"])
def test_an_environment_without_a_usable_key_is_refused(value):
    with pytest.raises(InputError, match="TREEWRIGHT_API_KEY"):
        read_keys(None, {"TREEWRIGHT_API_KEY": value})


def test_an_address_that_others_reach_needs_a_key():
    with pytest.raises(InputError, match="API key"):
        listen("0.0.0.0", 0)
    with listen("0.0.0.0", 0, has_key=True) as listener:
        assert host_names("0.0.0.0", listener) == ("*",)
