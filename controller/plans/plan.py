"""A plan: a shape policy with its settings fixed."""

from collections.abc import Callable
from dataclasses import dataclass

from ..contract import WALK
from ..policies.base import ShapePolicy
from .tuned import PolicySettings


@dataclass(frozen=True)
class PolicyPlan:
    """A policy with its settings fixed; `build` makes a new one, so that runs share no state."""

    family: str
    scheme: str
    settings: PolicySettings
    build: Callable[[], ShapePolicy]
    verifier: str = WALK.name

    @property
    def label(self) -> str:
        """The policy under its scheme, as figures and tables name it."""
        return f"{self.family} ({self.scheme})"

    @property
    def text(self) -> str:
        """The settings as a table shows them."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())
