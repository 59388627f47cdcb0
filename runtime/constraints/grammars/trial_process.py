"""The process that compiles grammars on trial, so that one which takes too much time or memory ends it and no other.

It reads a `Task` and then grammars, a JSON list per line, and answers each with a line once it is compiled or refused.
It ends with its input.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import NamedTuple

from .matcher import make_matcher, on_deep_stack
from .source import Grammar, GrammarKind


class Task(NamedTuple):
    """For which tokenizer grammars are compiled, and what one may take."""

    tokenizer: str  # JSON, in the format of Hugging Face's tokenizers
    end_tokens: list[int]
    most_seconds: float
    most_bytes: int


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever the parent does with it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    on_deep_stack(_answer_lines)


def _answer_lines() -> None:
    from llguidance import LLTokenizer

    task = Task(*json.loads(sys.stdin.readline()))
    tokenizer = LLTokenizer(task.tokenizer, eos_token=task.end_tokens)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what a failed allocation says
    print(flush=True)
    for line in sys.stdin:
        kind, text = json.loads(line)
        _allow(task.most_bytes)
        signal.setitimer(signal.ITIMER_REAL, task.most_seconds)  # which ends the process
        with suppress(BaseException):  # whoever asked compiles it too, and says what is wrong with it
            make_matcher(tokenizer, Grammar(GrammarKind(kind), text))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(flush=True)


def _allow(num_bytes: int) -> None:
    """Let the process take so many bytes more than it has, where the system says how many that are."""
    with suppress(FileNotFoundError), open("/proc/self/statm") as file:
        taken = int(file.read().split()[5]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (taken + num_bytes, most))


if __name__ == "__main__":
    main()
