"""A logistic rule of three features, as fitted on traces and stored in `baselines.json`."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..trees.tree import Array


@dataclass(frozen=True)
class LogisticRule:
    weights: tuple[float, float, float]
    bias: float

    @classmethod
    def parse(cls, document: Any) -> Self:
        """From untrusted JSON; ValueError for anything but three weights and a bias."""
        match document:
            case {"weights": [_, _, _] as weights, "bias": bias, **others} if not others:
                if all(type(number) in (int, float) for number in (*weights, bias)):
                    return cls((weights[0], weights[1], weights[2]), bias)
        raise ValueError("a logistic rule is three weights and a bias")

    def log_odds(self, features: Array) -> Array:
        """[...] from features [..., 3]."""
        return features @ np.asarray(self.weights) + self.bias
