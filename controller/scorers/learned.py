"""The learned score: a checkpoint's network run by ONNX Runtime on the host."""

import logging

import numpy as np
import onnxruntime

from ..context import StepContext
from ..features import node_features
from ..tree import Array, DraftTree

log = logging.getLogger(__name__)

INPUT_NAME, OUTPUT_NAME = "features", "accept_log_probs"
OUTPUT_NAMES = (OUTPUT_NAME,)


class LearnedScorer:
    """Runs the exported graph, one call per drafted level; `coverage` [W] are shares measured in training.

    `num_distrusted` counts the answers that were no log-probability; the drafter's confidence stood in for them.
    """

    def __init__(self, session: onnxruntime.InferenceSession, coverage: Array):
        self.num_distrusted = 0
        self._session = session
        self._coverage = np.log(np.maximum(coverage, 1e-6))

    @classmethod
    def from_bytes(cls, graph: bytes, coverage: Array) -> "LearnedScorer":
        """One thread, no spinning: the graph is small and the target's threads need the cores."""
        return cls(open_session(graph), coverage)

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        features = node_features(tree, context)
        (log_probs,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: features.reshape(-1, features.shape[-1])})
        scores = self._trusted(np.asarray(log_probs).reshape(tree.tokens.shape), tree)
        scores[:, 0] = 0.0
        return scores

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        return np.broadcast_to(self._coverage, (*tree.tokens.shape, len(self._coverage)))

    def _trusted(self, scores: Array, tree: DraftTree, known: int = 0) -> Array:
        """A copy of `scores` [B, N - known] of the later nodes; what is no finite log-probability is replaced."""
        strange = ~((scores <= 0.0) & (scores > -np.inf))  # NaN compares false
        if not strange.any():
            return scores.copy()
        num_strange = int((strange & (tree.depths[:, known:] > 0)).sum())
        if num_strange and not self.num_distrusted:
            log.warning("the selector answered with no log-probability; the drafter's confidence stands in")
        self.num_distrusted += num_strange
        return np.where(strange, np.minimum(tree.noisy_log_probs[:, known:], 0.0), scores)


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A CPU session for an exported selector graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about how the graph was exported
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without a fallback it raises; with one it first prints to stdout, which belongs to the result.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
