"""Strict JSON: an object of finite numbers and bounded nesting."""

import json
import math
from typing import Any

from ..errors import InputError, first_line

MAX_NESTING = 32


def parse_object(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `content`; InputError for anything else, numbers that are not finite included."""
    try:
        value = json.loads(content.decode(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON ({first_line(error)}); the folder is damaged") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} holds no JSON object; the folder is damaged")
    if _is_deeper(value, MAX_NESTING):
        raise InputError(f"{name} nests deeper than {MAX_NESTING} levels; the folder is damaged")
    return value


def is_share(value: object) -> bool:
    """Is it a number from 0 to 1?"""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not finite")
    return number


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_is_deeper(item, levels - 1) for item in inner))
