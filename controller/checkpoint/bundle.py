"""The contents of a checkpoint folder: of a selector in training, or of one that was read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_safetensors

from ..learned.numpy_model import PerceptronNetwork
from ..learned.scorer import INPUT_NAME, LearnedScorer
from ..plans.tuned import TunedSettings
from ..trees.tree import Array
from .baselines import Baselines
from .config import SelectorConfig
from .graph import GOLDEN_TOLERANCE, golden_miss
from .saving import save_checkpoint


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
        files = {
            "model.safetensors": save_safetensors(dict(self.weights)),
            "model.onnx": self.graph,
            "golden.safetensors": save_safetensors(dict(self.golden)),
            **{name: json.dumps(document, indent=1).encode() for name, document in documents.items()},
        }
        save_checkpoint(folder, self.config, files, card)
