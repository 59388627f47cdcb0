"""The settings of a drafter's memory of its own errors, see `runtime.drafters.memory`."""

from dataclasses import dataclass

from .ranges import require_above, require_at_least, require_between

MOST_WINDOW, MOST_ENTRIES = 4096, 128


@dataclass(frozen=True)
class MemoryConfig:
    """What the target said at the last committed positions corrects the drafter's logits, wherever its hidden state is
    like the one there; texts stay the same, only drafts change. Usual values are those fitted to the reference pair."""

    window: int = 128
    """Last committed positions of a text that are remembered, those of its prompt included; 0 for no memory"""
    entries: int = 8
    """Tokens remembered of each position: those where the probabilities of target and drafter differ most"""
    eta: float = 8.0
    """How far remembered differences of probability move the logits"""
    beta: float = 16.0
    """How alike two hidden states must be: a position counts exp(beta (cosine - 1))"""
    mass: float = 1.0
    """Trust: where the positions count so much in sum, the logits move half as far as they can"""

    def __post_init__(self) -> None:
        require_between("memory.window", self.window, 0, MOST_WINDOW)
        require_between("memory.entries", self.entries, 1, MOST_ENTRIES)
        require_above("memory.eta", self.eta, 0)
        require_at_least("memory.beta", self.beta, 0)
        require_above("memory.mass", self.mass, 0)
