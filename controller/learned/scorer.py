"""The learned score: a checkpoint's network on the host."""

import logging
from collections.abc import Callable

import numpy as np
import onnxruntime

from ..context import StepContext
from ..scorers.base import Scores
from ..scorers.siblings import from_odds, odds_of
from ..trees.tree import Array, DraftTree
from .features import node_features
from .recalibration import recalibrated_coverage, recalibrated_odds

log = logging.getLogger(__name__)

INPUT_NAME = "features"
OUTPUT_NAMES = ("accept_log_probs", "coverage_log_probs")
SILENT = 4  # ONNX Runtime's log level: faults are raised, not logged

# Features [n, F] float32 to log-probabilities [n] of acceptance, each node without siblings, and [n, W] of coverage.
Network = Callable[[Array], tuple[Array, Array]]


class LearnedScorer:
    """Asks the network about the nodes of the levels that are new: a node's features never change within a step."""

    reads_history = True

    def __init__(self, network: Network, *, recalibrates: bool = True):
        self.recalibrates = recalibrates  # where the context says what was off in each text
        self.num_distrusted = 0  # nodes for which the network's answer was no log-probability
        self._network = network

    @classmethod
    def from_bytes(cls, graph: bytes) -> "LearnedScorer":
        """The scorer of an exported graph, run by ONNX Runtime."""
        session = open_session(graph)

        def run(features: Array) -> tuple[Array, Array]:
            accept, coverage = session.run(OUTPUT_NAMES, {INPUT_NAME: features})
            return np.asarray(accept), np.asarray(coverage)

        return cls(run)

    def as_trained(self) -> "LearnedScorer":
        """The same network without recalibration."""
        return LearnedScorer(self._network, recalibrates=False)

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        # In a ragged batch some nodes behind the smallest tree's last are asked about again.
        known = int(before.tree.num_nodes.min()) if before is not None else 0
        if before is not None and known == tree.tokens.shape[1]:
            return before._replace(tree=tree)
        features = node_features(tree, context, known)
        answers = self._network(features.reshape(-1, features.shape[-1]))
        only_child, coverage = (answer.reshape(*features.shape[:2], *answer.shape[1:]) for answer in answers)
        coverage = np.minimum(coverage, 0.0, out=coverage)  # NaN stays NaN, and the selector drafts nothing under it
        coefficients = context.recalibration if self.recalibrates else None
        if coefficients is not None:
            coverage = recalibrated_coverage(coverage, coefficients)
        last_rank = coverage.shape[2] - 1
        if before is not None:
            assert before.only_child is not None, "an answer of another scorer"
            only_child = np.concatenate((before.only_child[:, :known], only_child), axis=1)
            coverage = np.concatenate((before.coverage[:, :known], coverage), axis=1)
        # Siblings may lie on both sides of `known`, so all are normalised again.
        # NaN compares false.
        strange = ~((only_child <= 0.0) & (only_child > -np.inf))
        if strange.any():
            self._note_strange(strange[:, known:] & (tree.depths[:, known:] > 0))
            # There the drafter's confidence.
            accept = _accept(np.where(strange, -np.inf, only_child), tree, last_rank, coefficients)
            accept = np.where(strange, np.minimum(tree.noisy_log_probs, 0.0), accept)
        else:
            accept = _accept(only_child, tree, last_rank, coefficients)
        accept[:, 0] = 0.0
        return Scores(tree, accept, coverage, only_child)

    def _note_strange(self, strange: Array) -> None:
        """Count the new nodes whose score is no log-probability."""
        num_strange = int(strange.sum())
        if num_strange and not self.num_distrusted:
            log.warning("the selector answered with no log-probability; the drafter's confidence is used instead")
        self.num_distrusted += num_strange


def _accept(only_child: Array, tree: DraftTree, last_rank: int, coefficients: Array | None) -> Array:
    odds = odds_of(only_child)
    if coefficients is not None:
        odds = recalibrated_odds(odds, tree.ranks == last_rank, coefficients)
    return from_odds(odds, tree).astype(only_child.dtype)


def open_session(graph: bytes, *, trusted: bool = True) -> onnxruntime.InferenceSession:
    """A CPU session for an exported selector graph: one thread, no spinning, for the target needs the cores. One that
    is not `trusted` is not optimised."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about how the graph was exported
    if not trusted:
        options.log_severity_level = SILENT
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without a fallback it raises; with one it first prints to stdout, which belongs to the result.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
