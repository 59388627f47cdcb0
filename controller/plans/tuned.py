"""Settings of policies, and those that replay found best: stored as values, because grids may change."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from ..contract import RANKED_SCHEMES
from ..errors import InputError
from .setting import Setting, temperature_key

PolicySettings = dict[str, float]
"""A policy's arguments by name."""


class TunedSettings(NamedTuple):
    """The settings of each policy as replay ranked them, best first, by setting and policy."""

    ranked: Mapping[Setting, Mapping[str, Sequence[PolicySettings]]]

    @classmethod
    def parse(cls, document: Any) -> Self:
        """From untrusted JSON, by scheme and temperature; InputError for anything else."""
        try:
            ranked = {
                Setting(scheme, float(temperature)): {
                    family: [_policy_settings(each) for each in trials] for family, trials in of.items()
                }
                for scheme, by_temperature in document.items()
                for temperature, of in by_temperature.items()
            }
            if set(document) <= set(RANKED_SCHEMES) and all(
                0 <= setting.temperature <= 100 and all(of.values())  # NaN compares false
                for setting, of in ranked.items()
            ):
                return cls(ranked)
        except (AttributeError, TypeError, ValueError):
            pass
        raise InputError("the tuned settings of baselines.json are no lists of numbers by name; retrain")

    def as_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        document: dict[str, Any] = {}
        for setting, of in self.ranked.items():
            document.setdefault(setting.scheme, {})[temperature_key(setting.temperature)] = dict(of)
        return document

    def at(self, setting: Setting, family: str) -> Sequence[PolicySettings]:
        """Those tuned at this setting; none where there was no such tuning."""
        return self.ranked.get(setting, {}).get(family, ())

    def best(self, scheme: str, family: str, name: str) -> dict[float, float]:
        """The best value of one argument of a policy, by temperature in rising order."""
        found = {
            setting.temperature: of[family][0][name]
            for setting, of in self.ranked.items()
            if setting.scheme == scheme and family in of and name in of[family][0]
        }
        return dict(sorted(found.items()))


def _policy_settings(given: Mapping[str, Any]) -> PolicySettings:
    if not all(type(value) in (int, float) for value in given.values()):
        raise TypeError(given)
    return dict(given)
