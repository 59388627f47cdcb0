"""Ranges of settings, refused in the same words everywhere; a number that is none (NaN) lies in no range."""

from collections.abc import Collection
from math import inf

from .errors import InputError

MOST_THREADS = 1024  # so many more would ask the system for nothing but memory
LARGEST_SEED = 2**32 - 1  # what seeds of numpy and torch have in common


def require_at_least(name: str, value: float, least: float) -> None:
    """InputError unless `value` is a number from `least` on; infinity is none."""
    if not least <= value < inf:
        raise InputError(f"{name} is at least {least:g}, got {value}")


def require_above(name: str, value: float, bound: float) -> None:
    """InputError unless `value` is a number above `bound`; infinity is none."""
    if not bound < value < inf:
        raise InputError(f"{name} is above {bound:g}, got {value}")


def require_between(name: str, value: float, least: float, most: float) -> None:
    """InputError unless `value` lies between the two, both included."""
    if not least <= value <= most:
        raise InputError(f"{name} is between {least:.12g} and {most:.12g}, got {value}")


def require_whole(name: str, value: object) -> None:
    """InputError unless `value` is an int; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} is a whole number, got {value!r}")


def require_some(name: str, values: Collection[object]) -> None:
    """InputError for an empty list."""
    if not values:
        raise InputError(f"{name} names nothing; give at least one")
