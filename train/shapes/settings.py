"""How the network of shapes is fitted: the `--fit.*` options of `train-shapes`."""

from dataclasses import dataclass

from ...controller.errors import InputError
from ...controller.ranges import LARGEST_SEED, require_above, require_at_least, require_between
from ..fit.settings import LARGEST_HIDDEN_SIZE


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
        require_between("fit.hidden_size", self.hidden_size, 1, LARGEST_HIDDEN_SIZE)
        for name in ("batch_size", "max_epochs", "patience"):
            require_at_least(f"fit.{name}", getattr(self, name), 1)
        require_above("fit.learning_rate", self.learning_rate, 0)
        for name in ("validation_share", "test_share"):
            require_above(f"fit.{name}", getattr(self, name), 0)
            require_between(f"fit.{name}", getattr(self, name), 0, 1)
        if self.validation_share + self.test_share >= 1:
            raise InputError(
                "fit.validation_share and fit.test_share together must be below 1, to leave documents to train on; "
                f"got {self.validation_share} and {self.test_share}"
            )
        require_between("fit.seed", self.seed, 0, LARGEST_SEED)
