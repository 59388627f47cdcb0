"""Networks over standardised features: what both kinds of selector are made of."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Share of the training rows beyond each bound of a feature.
OUTLIERS = 1e-3


class StandardisedModel(nn.Module):
    """A trunk of two hidden layers over features that are clipped, centred and scaled."""

    low: Tensor  # [F] features are clipped to the bulk of the training features, so that no stray one dominates
    high: Tensor  # [F]
    mean: Tensor  # [F] of the clipped training features
    scale: Tensor  # [F]

    def __init__(self, num_features: int, hidden_size: int):
        super().__init__()
        self.register_buffer("low", torch.full((num_features,), torch.finfo().min))
        self.register_buffer("high", torch.full((num_features,), torch.finfo().max))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.trunk = nn.Sequential(
            nn.Linear(num_features, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size), nn.SiLU()
        )

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

    def hidden(self, features: Tensor) -> Tensor:
        """[n, H] of the trunk for features [n, F]."""
        clipped = torch.minimum(torch.maximum(features, self.low), self.high)
        return self.trunk((clipped - self.mean) / self.scale)
