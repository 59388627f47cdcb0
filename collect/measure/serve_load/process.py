"""A `treewright` command as a process of its own, set up by a configuration file."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from httpx2 import HTTPError, get

from ....controller.errors import InputError
from ....runtime.serve.address import listen

CALL = (sys.executable, "-m", "treewright.cli")
LAST_SECONDS = 30  # that a server has to end once it was asked to


def profiled(settings: Mapping[str, object]) -> None:
    """Run `profile`, whose table the server finds where it was stored; InputError where it fails."""
    with _configuration(settings) as path:
        done = subprocess.run([*CALL, "profile", "--config", path], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise InputError("the latency table could not be measured; the lines above say why")


@contextmanager
def served(settings: Mapping[str, object]) -> Iterator[str]:
    """Run `serve` until the end of the block: its address, once it is ready; InputError where it does not start."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with _configuration({**settings, "port": port, "access_log": False}) as path:
        process = subprocess.Popen([*CALL, "serve", "--config", path], stdout=subprocess.DEVNULL)
        try:
            while not _is_ready(address):
                if process.poll() is not None:
                    raise InputError("the server has not started; the lines above say why")
                sleep(0.2)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(LAST_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _configuration(settings: Mapping[str, object]) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings, default=str))
        yield str(path)


def _is_ready(address: str) -> bool:
    try:
        return get(f"{address}/ready").status_code == 200
    except HTTPError:
        return False
