"""A measurement that is run as a module of its own, for developers."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ...controller.command_line import call_with
from ...controller.errors import InputError


def run_program(function: Callable[..., Any], name: str) -> NoReturn:
    """Call the function with the options of the command line. The exit code is what it returns, and 2, with a sentence
    on stderr, for invalid input."""
    try:
        sys.exit(call_with(function, sys.argv[1:], prog=name))
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
