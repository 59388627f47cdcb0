"""How the network of shapes is fitted: the `--fit.*` options of `train-shapes`."""

from dataclasses import asdict, dataclass

from ..fit.settings import FitConfig


@dataclass(frozen=True)
class ShapeFitConfig:
    """How the network of shapes is fitted."""

    hidden_size: int = 64
    """Width of both hidden layers"""
    learning_rate: float = 3e-3
    """Largest step size of AdamW"""
    batch_size: int = 256
    """Positions per step"""
    max_epochs: int = 60
    """Passes at most"""
    patience: int = 8
    """Epochs without a better validation loss before stopping"""
    validation_share: float = 0.2
    """Share of the documents by which the epoch is chosen and the policies are tuned"""
    test_share: float = 0.2
    """Share of the documents on which results are measured"""
    seed: int = 0
    """Seed of the initial weights and of the order of positions"""

    def __post_init__(self) -> None:
        FitConfig(**asdict(self))  # has the same ranges
