"""Settings of policies, and those that replay found best, as values: what a grid holds may change."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from ..contract import RANKED_SCHEMES
from ..errors import InputError

Settings = dict[str, float]
"""A policy's arguments by name."""


class TunedSettings(NamedTuple):
    """Of each policy the settings that replay ranked, best first, by drafting scheme, temperature and policy."""

    ranked: Mapping[str, Mapping[float, Mapping[str, Sequence[Settings]]]]

    @classmethod
    def parse(cls, document: Any) -> Self:
        """From JSON that anybody may have written, whose keys are strings; InputError for anything else."""
        try:
            ranked = {
                scheme: {
                    float(temperature): {family: [_settings(each) for each in trials] for family, trials in of.items()}
                    for temperature, of in by_temperature.items()
                }
                for scheme, by_temperature in document.items()
            }
            sound = set(ranked) <= set(RANKED_SCHEMES) and all(
                0 <= temperature <= 100 and all(of.values())  # NaN compares false
                for by_temperature in ranked.values()
                for temperature, of in by_temperature.items()
            )
        except (AttributeError, TypeError, ValueError):
            sound, ranked = False, {}
        if not sound:
            raise InputError("the tuned settings of baselines.json are no lists of numbers by name; retrain")
        return cls(ranked)

    def as_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        return {
            scheme: {f"{temperature:g}": dict(of) for temperature, of in by_temperature.items()}
            for scheme, by_temperature in self.ranked.items()
        }

    def at(self, scheme: str, temperature: float, family: str) -> Sequence[Settings]:
        """Those tuned at this very temperature; none where there was no such tuning."""
        return self.ranked.get(scheme, {}).get(round(temperature, 3), {}).get(family, ())

    def best(self, scheme: str, family: str, name: str) -> dict[float, float]:
        """The best value of one setting, by temperature."""
        by_temperature = self.ranked.get(scheme, {})
        return {
            temperature: of[family][0][name]
            for temperature, of in sorted(by_temperature.items())
            if family in of and name in of[family][0]
        }


def _settings(given: Any) -> Settings:
    """Numbers by name; a nested value or none is a TypeError or ValueError."""
    return {str(name): _number(value) for name, value in given.items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(value)
    return value
