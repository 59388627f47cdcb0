"""Static tree shapes as other engines write them: lists of paths, a path naming the child rank at each depth."""

import ast
from collections.abc import Sequence

from ..errors import InputError

Path = tuple[int, ...]
MOST_RANK = 2**20  # no vocabulary is larger


def parse_paths(text: str) -> list[Path]:
    """Read vLLM's `"[(0,), (1,), (0, 0)]"` or an EAGLE choice list `"[[0], [1], [0, 0]]"`, shortest paths first."""
    try:
        raw = ast.literal_eval(text)
        paths = sorted({tuple(_rank(rank) for rank in path) for path in raw}, key=lambda path: (len(path), path))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"a static tree is a list of paths such as '[(0,), (1,), (0, 0)]', got {text!r}") from error
    check_paths(paths)
    return paths


def _rank(value: object) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def check_paths(paths: Sequence[Path]) -> None:
    """Refuse an empty list, a negative rank, or a path whose parent is missing."""
    if not paths:
        raise InputError("a static tree needs at least one path, got an empty list; write '[(0,)]' for one token")
    known = set(paths) | {()}
    for path in paths:
        if not path or min(path) < 0 or max(path) >= MOST_RANK:
            raise InputError(f"a path holds one rank from 0 to {MOST_RANK - 1} per depth, got {path}")
        if path[:-1] not in known:
            raise InputError(f"static tree holds {path} without its parent; add {path[:-1]}")


def chain(depth: int) -> list[Path]:
    """The first-choice path of `depth` tokens."""
    return [(0,) * length for length in range(1, depth + 1)]
