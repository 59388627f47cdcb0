"""Grammars of strangers: what takes too much time or memory to compile is refused, and holds up nobody for long."""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import tiny
from constrained import END, characters
from treewright.controller.errors import InputError
from treewright.runtime.constraints.grammars.compiler import MOST_WAITING, CompilerBusyError, GrammarCompiler
from treewright.runtime.constraints.grammars.source import Grammar, GrammarKind
from treewright.runtime.constraints.grammars.trial import Limits

ALARM = {signal.SIGALRM}
LITTLE = Grammar(GrammarKind.REGEX, "a+")
# As many states as the number says: 300 MB and seconds.
LARGE = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer", "multipleOf": 499999}')


@pytest.fixture
def under():
    """Makes a compiler under limits, whose process ends with the test."""
    made = []

    def make(*limits):
        made.append(GrammarCompiler(tiny.words(characters()), {END}, Limits(*limits)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        with suppress(CompilerBusyError):  # sees that its process has ended
            each.compile(Grammar(GrammarKind.REGEX, "b+"))


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ((60, 8 << 20), "json_schema takes more than 8 MiB to compile; give a simpler or smaller one"),
        ((0.1, 1 << 30), "json_schema takes longer than 0.1 s to compile; give a simpler or smaller one"),
    ],
)
def test_a_grammar_that_takes_too_much_is_refused_and_the_next_one_is_not(under, limits, complaint):
    compiler = under(*limits)
    with pytest.raises(InputError, match=complaint):
        compiler.compile(LARGE)
    compiler.compile(LITTLE)


def test_the_time_counts_where_the_alarm_is_ignored_and_blocked(under):
    before, mask = signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.pthread_sigmask(signal.SIG_BLOCK, ALARM)
    try:
        with pytest.raises(InputError, match="takes longer than"):
            under(0.1, 1 << 30).compile(LARGE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGALRM, before)


def test_a_grammar_that_passes_is_refused_for_what_it_says(under):
    with pytest.raises(InputError, match=r"regex cannot be followed .*unclosed"):
        under().compile(Grammar(GrammarKind.REGEX, "[a"))


def test_no_grammar_waits_for_longer_than_one_may_take(under):
    compiler = under(0.3, 1 << 30)
    with compiler._compiling, pytest.raises(CompilerBusyError):
        compiler.compile(LITTLE)
    compiler.compile(LITTLE)


def test_one_more_than_may_wait_is_told_so_at_once(under):
    compiler = under()
    for _ in range(MOST_WAITING):
        compiler._places.acquire()
    with pytest.raises(CompilerBusyError):
        compiler.compile(LITTLE)


def test_a_closed_compiler_lets_nobody_wait(under):
    compiler = under(60, 1 << 30)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(compiler.compile, each) for each in (LARGE, LARGE._replace(text=LARGE.text + " "))]
        while not compiler._compiling.locked():
            pass
        compiler.close()
        assert [type(each.exception()) for each in waiting] == [CompilerBusyError] * 2


def test_a_grammar_that_has_passed_is_not_tried_again(under):
    compiler = under()
    compiler.compile(LITTLE)
    compiler.close()
    compiler.compile(LITTLE)
    with pytest.raises(CompilerBusyError):
        compiler.compile(Grammar(GrammarKind.REGEX, "a*"))
