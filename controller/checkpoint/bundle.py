"""The contents of a checkpoint folder: of a selector in training, or of one that was read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..learned.numpy_model import PerceptronNetwork
from ..learned.scorer import INPUT_NAME, LearnedScorer
from ..plans.tuned import TunedSettings
from ..trees.tree import Array
from .baselines import Baselines
from .config import SelectorConfig
from .graph import GOLDEN_TOLERANCE, golden_miss
from .saving import packed, save_checkpoint


@dataclass(frozen=True)
class SelectorBundle:
    config: SelectorConfig
    graph: bytes  # ONNX
    weights: Mapping[str, Array]
    golden: Mapping[str, Array]  # features, and the graph's answers to them
    baselines: Baselines
    metrics: dict[str, Any]  # `metrics.json`

    @property
    def tuned(self) -> TunedSettings:
        return self.baselines.tuned

    def scorer(self) -> LearnedScorer:
        """In numpy where the weights are our own perceptron's and answer the golden vectors as the graph does; any
        other graph is run by ONNX Runtime."""
        network = PerceptronNetwork.from_weights(self.weights)
        if network is None or golden_miss(network(self.golden[INPUT_NAME]), self.golden) > GOLDEN_TOLERANCE:
            return LearnedScorer.from_bytes(self.graph)
        return LearnedScorer(network)

    def save(self, folder: Path, card: str) -> None:
        """Write the checkpoint folder, whole or not at all."""
        documents = {"baselines.json": self.baselines.as_json(), "metrics.json": self.metrics}
        save_checkpoint(folder, self.config, packed(self.weights, self.graph, self.golden, documents), card)
