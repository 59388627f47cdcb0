"""The selector's network: features of a drafted node to what the target will do there."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Share of the training rows beyond each bound of a feature.
OUTLIERS = 1e-3
# Certain in float32, and its exponential still a number.
MOST_LOG_ODDS = 40.0


class Predictions(NamedTuple):
    """Log-probabilities, <= 0."""

    accept: Tensor  # [n] the target takes the node, given that the text runs through its parent; as an only child
    coverage: Tensor  # [n, W] its next token is the rank-w child, given that the text runs through the node


class SelectorModel(nn.Module):
    """A small perceptron over standardised features with two heads on one trunk.

    Acceptance is answered node by node; what it is among siblings follows from all their answers. Coverage needs no
    children, so the decision to draft another level uses it; at the root it answers
    before anything is drafted whether to speculate at all.
    """

    low: Tensor  # [F] features are clipped to the bulk of the training features, so that no stray one dominates
    high: Tensor  # [F]
    mean: Tensor  # [F] of the clipped training features
    scale: Tensor  # [F]

    def __init__(self, num_features: int, width: int, hidden_size: int = 32):
        super().__init__()
        self.register_buffer("low", torch.full((num_features,), torch.finfo().min))
        self.register_buffer("high", torch.full((num_features,), torch.finfo().max))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.trunk = nn.Sequential(
            nn.Linear(num_features, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size), nn.SiLU()
        )
        self.accept_head = nn.Linear(hidden_size, 1)
        self.coverage_head = nn.Linear(hidden_size, width + 1)  # the last class: none of the candidates

    def standardise(self, features: Tensor, held: Sequence[int] = ()) -> None:
        """Take bounds, mean and scale from training features [n, F], all finite; a constant one keeps scale 1.

        A column of `held` gets an infinite scale: whatever its value, the network sees its mean.
        """
        ordered = features.sort(dim=0).values
        outliers = int(len(features) * OUTLIERS)
        self.low.copy_(ordered[outliers])
        self.high.copy_(ordered[-1 - outliers])
        clipped = features.clamp(self.low, self.high)
        scale = clipped.std(dim=0)
        self.mean.copy_(clipped.mean(dim=0))
        self.scale.copy_(torch.where(scale > 1e-6, scale, torch.ones_like(scale)))
        self.scale[list(held)] = torch.inf

    def logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[n] log-odds of acceptance and [n, W + 1] unnormalised coverage scores for features [n, F]."""
        clipped = torch.minimum(torch.maximum(features, self.low), self.high)
        hidden = self.trunk((clipped - self.mean) / self.scale)
        return self.accept_head(hidden).squeeze(-1), self.coverage_head(hidden)

    def forward(self, features: Tensor) -> Predictions:
        """Both heads for features [n, F]."""
        accept, coverage = self.logits(features)
        # Not logsigmoid: exported, it takes the log of a sigmoid that ONNX Runtime rounds to an absolute 1e-7.
        return Predictions(-nn.functional.softplus(-accept), coverage.log_softmax(-1)[:, :-1])


def among_siblings(log_odds: Tensor, family: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability [n] of each node and [f] that its family has none of the text, where the text takes one child of
    a node at most: odds against none do not depend on the siblings (see `scorers.siblings`).

    `family` [n] int64 numbers the nodes' parents 0 ... f - 1.
    """
    odds = log_odds.clamp_max(MOST_LOG_ODDS).exp()
    num_families = int(family.max()) + 1 if len(family) else 0
    none = -odds.new_ones(num_families).index_add(0, family, odds).log()
    return log_odds.clamp_max(MOST_LOG_ODDS) + none[family], none
