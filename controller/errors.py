"""The one exception for faults of the input, which a user can correct."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

MOST_LETTERS = 240  # of another library's message


class InputError(ValueError):
    """States in one sentence what is wrong, what was got, and how to correct it; commands print it and exit with 2."""


class SettingError(InputError):
    """Of one setting, whose name begins the sentence."""

    def __init__(self, setting: str, says: str):
        super().__init__(f"{setting} {says}")
        self.setting = setting


def first_line(error: Exception) -> str:
    """The first line of another library's message, to be quoted in a sentence of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def what_it_says(error: Exception) -> str:
    """Another library's message as part of a sentence: one line, printable, cut where it goes on for long."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())
    words = words or type(error).__name__
    return words if len(words) <= MOST_LETTERS else words[:MOST_LETTERS].rpartition(" ")[0] + " ..."


@contextmanager
def named(location: str) -> Iterator[None]:
    """Prefixes an InputError from within with a location, such as a line of a file or an option."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{location}: {error}") from error


def system_sentence(error: OSError) -> str:
    """An error of the operating system, in a sentence."""
    reason = error.strerror or first_line(error)
    if error.filename is None:
        return f"the system reports an error ({reason}); correct it, such as a full disk, and try again"
    return f"{error.filename} cannot be read or written ({reason}); correct that and run the same command again"
