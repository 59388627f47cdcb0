"""JSON that somebody else may have written: strict, small and shallow."""

import json
import math
from typing import Any

from ..contract import RANKED_SCHEMES
from ..errors import InputError, first_line
from ..plans.tuned import TunedSettings

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


def parse_baselines(content: bytes) -> dict[str, Any]:
    """`baselines.json`: all that a policy reads of it is there and of its kind.

    Rank tables are probabilities by scheme, temperature and rank, of every scheme at one temperature at least; the
    rules `c2t` and `ltd` are three weights and a bias by scheme; tuned settings are numbers (see `policies.settings`).
    """
    baselines = parse_object(content, "baselines.json")
    try:
        tables = [
            (float(place), table)
            for scheme in RANKED_SCHEMES
            for place, table in baselines["rank_probs"][scheme].items()
        ]
        sound = all(math.isfinite(place) and table and all(map(is_share, table)) for place, table in tables)
        sound = sound and all(baselines["rank_probs"][scheme] for scheme in RANKED_SCHEMES)
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError("the rank tables of baselines.json are no probabilities of both schemes; retrain the selector")
    for rule in ("c2t", "ltd"):
        fits = baselines.get(rule, {})
        if not isinstance(fits, dict) or not all(
            scheme in RANKED_SCHEMES and _is_fit(fit) for scheme, fit in fits.items()
        ):
            raise InputError(
                f"the rule {rule!r} of baselines.json is no three weights and a bias; retrain the selector"
            )
    TunedSettings.parse(baselines.get("tuned", {}))
    return baselines


def _is_fit(fit: object) -> bool:
    """Is it what a logistic rule of three features reads?"""
    if not isinstance(fit, dict) or set(fit) != {"weights", "bias"} or not isinstance(fit["weights"], list):
        return False
    return len(fit["weights"]) == 3 and all(_is_number(value) for value in (*fit["weights"], fit["bias"]))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
