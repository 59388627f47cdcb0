"""`metrics.json`: what a training run measured, filled step by step."""

from dataclasses import asdict, dataclass
from typing import Any

from .evaluate.ablation import Ablation
from .evaluate.drafters import DrafterStrength
from .evaluate.scores import Evaluation
from .replay.tuning import ReplayRow


@dataclass(frozen=True)
class Metrics:
    epochs: int
    training_edges: int
    positions: int
    evaluation: Evaluation | None = None
    drafter: list[DrafterStrength] | None = None
    replay: list[ReplayRow] | None = None
    study: list[dict[str, Any]] | None = None  # summaries
    ablation: Ablation | None = None

    def as_json(self) -> dict[str, Any]:
        """What was measured; the evaluation's parts by their own names."""
        document = {name: value for name, value in asdict(self).items() if value is not None}
        return document | document.pop("evaluation", {})
