"""A trial of grammars that come from others, before this process compiles them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from ....controller.errors import SettingError
from . import trial_process
from .source import Grammar
from .trial_process import Task


class Limits(NamedTuple):
    """What it may take to compile a grammar."""

    most_seconds: float = 10.0
    most_bytes: int = 64 << 20  # the schemas and grammars of real use take a few MiB


class Trial:
    """One grammar at a time. Its process begins with the first one, and anew behind one that has ended it."""

    def __init__(self, limits: Limits, fast_json: Callable[[], str], end_tokens: Collection[int]):
        self._limits = limits
        self._fast_json = fast_json  # see `Tokenizer`
        self._end_tokens = sorted(end_tokens)
        self._process: subprocess.Popen[str] | None = None
        self._is_closed = False  # by any thread

    def passes(self, grammar: Grammar) -> bool:
        """SettingError for a grammar that takes too much time or memory to compile; False where that is not known, for
        somebody ended the process. Another one passes, though it may be refused for what it says."""
        if self._is_closed:
            return False
        process = self._running()
        if _answers(process, grammar):
            return True
        self._process, code = None, _end(process)
        if code == -signal.SIGKILL:
            return False
        seconds, num_bytes = self._limits
        much = f"longer than {seconds:g} s" if code == -signal.SIGALRM else f"more than {num_bytes >> 20} MiB"
        raise SettingError(grammar.kind.value, f"takes {much} to compile; give a simpler or smaller one")

    def close(self) -> None:
        """End the process, whatever it is doing; any thread may ask."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is not None:
            _end(self._process)
            self._process = None
        if self._process is None:
            # In a session of its own, where no signal of a terminal reaches it; away from the modules of this folder.
            command, pipe = [sys.executable, "-P", "-m", trial_process.__name__], subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
            if self._is_closed:  # which could not end it yet
                self._process.kill()
            task = Task(self._fast_json(), self._end_tokens, *self._limits)
            has_begun = _answers(self._process, task)
            assert has_begun or self._is_closed, "the trial of grammars cannot begin"
        return self._process


def _answers(process: "subprocess.Popen[str]", given: Task | Grammar) -> bool:
    """Whether the process lives to answer what it is given."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps([*given]) + "\n")
        process.stdin.flush()
        return process.stdout.readline() != ""
    except OSError:
        return False


def _end(process: "subprocess.Popen[str]") -> int:
    """The exit code of a process that has ended, or ends by its input; its pipes are closed."""
    with suppress(OSError), process:  # what it has not read is lost
        pass
    return process.wait()
