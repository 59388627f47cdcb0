"""The one exception for what a person gave us and can mend."""


class InputError(ValueError):
    """Says in one sentence what is wrong, what was got, and how to mend it; commands print it and exit with 2."""


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for a sentence of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
