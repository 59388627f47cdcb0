"""The package that writes GGUF files, imported when it is first needed."""

from importlib import import_module
from typing import Any

from .....controller.errors import InputError


def gguf_package() -> Any:
    """The module; InputError where it is missing."""
    try:
        return import_module("gguf")
    except ModuleNotFoundError as error:
        raise InputError(
            "GGUF files are written by the package gguf, which is missing; run `pip install treewright[llamacpp]`"
        ) from error
