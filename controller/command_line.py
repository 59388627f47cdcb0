"""From words on the command line and files of settings to the arguments of a function."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace, auto_cli, set_parsing_settings
from jsonargparse.typing import register_type

from .errors import InputError

# A function, or functions by the word that comes first.
Command = Callable[..., Any] | dict[str, Any]


def call_with(command: Command, words: Sequence[str], *, prog: str) -> Any:
    """What the command returns; its options are the arguments of its signature. InputError for some faults of the
    input; SystemExit with 2, and a sentence on stderr, for others."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True, unset_sentinel=True)
    register_type(Path, deserializer=path_of, type_check=isinstance)
    return auto_cli(
        command, args=[*words], prog=prog, as_positional=False, fail_untyped=True, parser_class=_GroupParser
    )


class _GroupParser(ArgumentParser):
    """jsonargparse's takes null or a number for a group of settings, and then cannot make one of it."""

    def instantiate(self, cfg: Any, **options: Any) -> Any:
        for group in self.groups or ():
            value = cfg.get(group, {})
            if not isinstance(value, Namespace | dict):
                shown = "null" if value is None else repr(value)
                raise InputError(f"{group} is {shown}; give some of its settings or leave it out")
        return super().instantiate(cfg, **options)


def path_of(text: str) -> Path:
    """A path from a configuration file or a shell, with `~` expanded."""
    if not text:
        raise ValueError("a path has at least one character")
    return Path(os.path.expanduser(text))
