"""The one exception for what a person gave us and can mend."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

MOST_LETTERS = 240  # of another library's message


class InputError(ValueError):
    """Says in one sentence what is wrong, what was got, and how to mend it; commands print it and exit with 2."""


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for a sentence of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def what_it_says(error: Exception) -> str:
    """Another library's message as part of a sentence: one line, printable, cut where it goes on for long."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())
    words = words or type(error).__name__
    return words if len(words) <= MOST_LETTERS else words[:MOST_LETTERS].rpartition(" ")[0] + " ..."


@contextmanager
def named(place: str) -> Iterator[None]:
    """Puts the name of a place, such as a line of a file or an option, before an InputError that comes from it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def system_sentence(error: OSError) -> str:
    """What the system refused, in a sentence."""
    reason = error.strerror or first_line(error)
    if error.filename is None:
        return (
            f"the system refused to go on ({reason}); mend that, such as a full disk behind the output, and try again"
        )
    return f"{error.filename} cannot be read or written ({reason}); mend that and run the same command again"
