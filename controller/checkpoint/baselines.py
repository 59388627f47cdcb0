"""`baselines.json`: rank tables, fitted rules and tuned settings from the traces of the selector."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ..contract import RANKED_SCHEMES
from ..errors import InputError
from ..plans.setting import temperature_key
from ..plans.tuned import TunedSettings
from ..scorers.logistic import LogisticRule
from .strict_json import is_share, parse_object

UNTUNED = TunedSettings({})


@dataclass(frozen=True)
class Baselines:
    rank_probs: Mapping[str, Mapping[float, Sequence[float]]]  # by scheme and temperature: of each rank, to be taken
    c2t: Mapping[str, LogisticRule] = field(default_factory=dict)  # by scheme
    ltd: Mapping[str, LogisticRule] = field(default_factory=dict)  # by scheme
    tuned: TunedSettings = UNTUNED  # empty where the traces held no envelopes

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """InputError where something that a policy reads is missing or not of its kind."""
        document = parse_object(content, "baselines.json")
        return cls(
            _rank_probs(document.get("rank_probs")),
            _rules(document, "c2t"),
            _rules(document, "ltd"),
            TunedSettings.parse(document.get("tuned", {})),
        )

    def as_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        document: dict[str, Any] = {
            "rank_probs": {
                scheme: {temperature_key(temperature): list(probs) for temperature, probs in tables.items()}
                for scheme, tables in self.rank_probs.items()
            }
        }
        for name, rules in (("c2t", self.c2t), ("ltd", self.ltd)):
            document[name] = {scheme: asdict(rule) for scheme, rule in rules.items()}
        return document | ({"tuned": tuned} if (tuned := self.tuned.as_json()) else {})


def _rank_probs(document: Any) -> dict[str, dict[float, list[float]]]:
    """Probabilities of every scheme, at one temperature at least."""
    try:
        tables = {
            scheme: {float(temperature): probs for temperature, probs in document[scheme].items()}
            for scheme in RANKED_SCHEMES
        }
        if all(tables.values()) and all(
            math.isfinite(temperature) and probs and all(map(is_share, probs))
            for of_scheme in tables.values()
            for temperature, probs in of_scheme.items()
        ):
            return tables
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise InputError("the rank tables of baselines.json are no probabilities of both schemes; retrain the selector")


def _rules(document: Mapping[str, Any], name: str) -> dict[str, LogisticRule]:
    try:
        rules = {scheme: LogisticRule.parse(rule) for scheme, rule in document.get(name, {}).items()}
        if rules.keys() <= RANKED_SCHEMES.keys():
            return rules
    except (AttributeError, ValueError):
        pass
    raise InputError(f"the rule {name!r} of baselines.json is no three weights and a bias; retrain the selector")
