"""The selector's network: features of a drafted node to the log-probability that the target takes it."""

import torch
from torch import Tensor, nn


class AcceptModel(nn.Module):
    """A small perceptron over standardised features; its output is a log-probability, <= 0."""

    mean: Tensor  # [F] of the training features
    scale: Tensor  # [F]

    def __init__(self, num_features: int, hidden_size: int = 32):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.layers = nn.Sequential(
            nn.Linear(num_features, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, 1),
        )

    def standardise(self, features: Tensor) -> None:
        """Take mean and scale from training features [n, F]; a constant feature keeps scale 1."""
        scale = features.std(dim=0)
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(torch.where(scale > 1e-6, scale, torch.ones_like(scale)))

    def logits(self, features: Tensor) -> Tensor:
        """[n] log-odds of acceptance for features [n, F]."""
        return self.layers((features - self.mean) / self.scale).squeeze(-1)

    def forward(self, features: Tensor) -> Tensor:
        """[n] log-probability of acceptance for features [n, F]."""
        # Not logsigmoid: exported, it takes the log of a sigmoid that ONNX Runtime rounds to an absolute 1e-7.
        return -nn.functional.softplus(-self.logits(features))
