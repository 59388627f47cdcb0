"""The selector's network: features of a drafted node to what the target will do there."""

from typing import NamedTuple

from torch import Tensor, nn

from .standardised import StandardisedModel

# Certain in float32, and its exponential still a number.
MOST_LOG_ODDS = 40.0


class Predictions(NamedTuple):
    """Log-probabilities, <= 0."""

    accept: Tensor  # [n] the target takes the node, given that the text runs through its parent; as an only child
    coverage: Tensor  # [n, W] its next token is the rank-w child, given that the text runs through the node


class SelectorModel(StandardisedModel):
    """A small perceptron over standardised features with two heads on one trunk.

    Acceptance is answered node by node; what it is among siblings follows from all their answers. Coverage needs no
    children, so the decision to draft another level uses it; at the root it answers
    before anything is drafted whether to speculate at all.
    """

    def __init__(self, num_features: int, width: int, hidden_size: int = 32):
        super().__init__(num_features, hidden_size)
        self.accept_head = nn.Linear(hidden_size, 1)
        self.coverage_head = nn.Linear(hidden_size, width + 1)  # the last class: none of the candidates

    def logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[n] log-odds of acceptance and [n, W + 1] unnormalised coverage scores for features [n, F]."""
        hidden = self.hidden(features)
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
