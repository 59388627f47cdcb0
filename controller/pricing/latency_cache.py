"""Latency tables in the user cache: one file per key; the key names the pair, the machine and the settings measured."""

import hashlib
import json
import logging
from functools import cache
from pathlib import Path

import platformdirs

from ..errors import InputError
from .latency import LatencyTable

# Of the pair's name in a file's name: file systems limit names to 255 bytes; the digest distinguishes long names.
NAME_BYTES = 100

log = logging.getLogger(__name__)


def cache_path(key: dict[str, str]) -> Path:
    """The file of the table that holds for `key`."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    name = "".join(letter if letter.isalnum() or letter in "+-." else "-" for letter in key["pair"])
    name = name.encode()[:NAME_BYTES].decode(errors="ignore")
    return platformdirs.user_cache_path("treewright") / "latency" / f"{name}-{digest}.json"


def stored_table(key: dict[str, str]) -> LatencyTable | None:
    """The table that holds for `key`; None where there is none, or, after a warning, none that can be used."""
    path = cache_path(key)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _warn(f"no latency table can be read from {path.parent} ({error.strerror}); stored tables are ignored")
        return None
    try:
        table = LatencyTable.load(path)
    except InputError as error:
        _warn(f"{error}; it is ignored")
        return None
    if table.key != key:
        _warn(f"the latency table {path} holds for {table.key}, not for {key}; it is ignored")
        return None
    return table


@cache
def _warn(sentence: str) -> None:
    """Once: a command looks a table up several times."""
    log.warning(sentence)
