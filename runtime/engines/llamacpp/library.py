"""llama.cpp itself, through the low-level functions of llama-cpp-python, which is imported when it is first needed."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from ....controller.errors import InputError, what_it_says
from ...hosts import require_host
from ...pair_config import LLAMACPP

ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR
CONTINUED_LEVEL = 5  # GGML_LOG_LEVEL_CONT, more of the line before


@cache
def llama_cpp() -> Any:
    """The module, its log silenced and its back ends started; InputError where it is missing or of another version."""
    require_host(LLAMACPP, "pair.engine")
    try:
        library = import_module("llama_cpp")
    except Exception as error:  # a shared library that does not fit this machine may fail in any way
        raise InputError(
            f"llama-cpp-python cannot be loaded ({what_it_says(error)}); install it again on this machine"
        ) from error
    callback = library.llama_log_callback(_LOG)
    _KEPT.append(callback)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


class Log:
    """The lines that llama.cpp has logged as errors."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._continues = False

    def __call__(self, level: int, text: bytes, _: object) -> None:
        line = text.decode(errors="replace")
        if level == ERROR_LEVEL:
            self.lines.append(line)
        elif level == CONTINUED_LEVEL and self._continues:
            self.lines[-1] += line
        self._continues = level == ERROR_LEVEL or (level == CONTINUED_LEVEL and self._continues)

    @property
    def sentence(self) -> str:
        """The first error, of which others are consequences, in brackets behind a space; nothing where none was
        logged."""
        return f" ({what_it_says(ValueError(self.lines[0]))})" if self.lines else ""


_LOG = Log()
_KEPT: list[Any] = []  # ctypes frees a callback that nobody holds


@contextmanager
def quiet_log() -> Iterator[Log]:
    """The errors that llama.cpp logs in the meantime."""
    _LOG.lines.clear()
    yield _LOG
