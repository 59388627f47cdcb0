"""The selector's own perceptron in numpy, from a checkpoint's weights.

Behind a forward of a language model the processor's caches are cold, and what a run of so small a network takes is the
code it touches: a third of ONNX Runtime's time, half of torch's.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from ..trees.tree import Array
from .features import FEATURES

LAYERS = ("trunk.0", "trunk.2", "accept_head", "coverage_head")
BUFFERS = ("low", "high", "mean", "scale")


class Layer(NamedTuple):
    """x -> x @ weight + bias."""

    weight: Array  # [in, out]
    bias: Array  # [out]


class PerceptronNetwork:
    """What `model.SelectorModel` computes, with the standardisation folded into the first layer and both heads in one
    product; answers differ from the exported graph's by rounding.

    x * sigmoid(x) is y + y * tanh(y) for y = x / 2, so the hidden layers are kept at half their size.
    """

    def __init__(self, low: Array, high: Array, hidden: tuple[Layer, Layer], heads: Layer):
        self._low, self._high, self._hidden, self._heads = low, high, hidden, heads

    @classmethod
    def from_weights(cls, weights: Mapping[str, Array], num_features: int = len(FEATURES)) -> Self | None:
        """The network of a `SelectorModel`'s state; None where the weights are of another network."""
        shapes = {name: weight.shape for name, weight in weights.items()}
        hidden, num_ranks = (np.size(weights.get(name, ())) for name in ("trunk.0.bias", "coverage_head.bias"))
        if shapes != _shapes(num_features, hidden, num_ranks):
            return None
        first, second, accept, coverage = (
            Layer(weights[f"{name}.weight"].T, weights[f"{name}.bias"]) for name in LAYERS
        )
        low, high, mean, scale = (weights[name] for name in BUFFERS)
        with np.errstate(all="ignore"):
            standard = first.weight / scale[:, None]
            halves = (
                Layer(standard / 2, (first.bias - mean @ standard) / 2),
                Layer(second.weight / 2, second.bias / 2),
            )
        heads = Layer(*(np.concatenate(parts, axis=-1) for parts in zip(accept, coverage, strict=True)))
        return cls(low, high, halves, heads)

    def __call__(self, features: Array) -> tuple[Array, Array]:
        """Log-probabilities [n] of acceptance and [n, W] of coverage for features [n, F] float32."""
        with np.errstate(all="ignore"):  # strange weights give strange numbers, which the scorer does not trust
            values = np.maximum(features, self._low)
            np.minimum(values, self._high, out=values)
            for layer in self._hidden:
                half = values @ layer.weight
                half += layer.bias
                values = np.tanh(half)
                values += 1.0
                values *= half
            logits = values @ self._heads.weight
            logits += self._heads.bias
            ranks = logits[:, 1:]
            ranks -= ranks.max(axis=1, keepdims=True)
            coverage = ranks[:, :-1] - np.log(np.exp(ranks).sum(axis=1, keepdims=True))
            return -np.logaddexp(0.0, -logits[:, 0]), coverage


def _shapes(num_features: int, hidden: int, num_ranks: int) -> dict[str, tuple[int, ...]]:
    sizes = ((hidden, num_features), (hidden, hidden), (1, hidden), (num_ranks, hidden))
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(BUFFERS, (num_features,))
    for name, size in zip(LAYERS, sizes, strict=True):
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return shapes
