"""Servers of many settings: `python forking.py FILE...` prints the exit code and stderr of each as a line of JSON.

What is imported is imported once, and each server is a fork of that process; one that begins to listen is stopped.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

tables = os.environ["XDG_CACHE_HOME"]
import conftest  # noqa: E402, F401

os.environ["XDG_CACHE_HOME"] = tables
from treewright import cli  # noqa: E402

cli.load("serve")
MEMORY = 12 << 30


def server(settings: str, log: Path) -> int:
    """The process of a server with this file of settings, which writes to the log."""
    process = os.fork()
    if process:
        return process
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    code = 1
    try:
        code = cli.main(["serve", "--config", settings])
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def exit_code(process: int, log: Path) -> int:
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if log.exists() and "listening on" in log.read_text(errors="replace"):
            os.kill(process, signal.SIGTERM)
        time.sleep(0.02)


for settings in sys.argv[1:]:
    log = Path(f"{settings}.log")
    code = exit_code(server(settings, log), log)
    print(json.dumps([code, log.read_text(errors="replace")]), flush=True)
