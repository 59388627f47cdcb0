"""The learned score: a checkpoint's network run by ONNX Runtime on the host."""

import numpy as np
import onnxruntime

from ..context import StepContext
from ..features import node_features
from ..tree import Array, DraftTree

INPUT_NAME, OUTPUT_NAME = "features", "accept_log_probs"


class LearnedScorer:
    """Runs the exported graph, one call per drafted level; `coverage` [W] are shares measured in training."""

    def __init__(self, session: onnxruntime.InferenceSession, coverage: Array):
        self._session = session
        self._coverage = np.log(np.maximum(coverage, 1e-6))

    @classmethod
    def from_bytes(cls, graph: bytes, coverage: Array) -> "LearnedScorer":
        """One thread, no spinning: the graph is small and the target's threads need the cores."""
        return cls(open_session(graph), coverage)

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        features = node_features(tree, context)
        (log_probs,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: features.reshape(-1, features.shape[-1])})
        scores = np.minimum(np.asarray(log_probs).reshape(tree.tokens.shape), 0.0)
        scores[:, 0] = 0.0
        return scores

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        return np.broadcast_to(self._coverage, (*tree.tokens.shape, len(self._coverage)))


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A CPU session for an exported selector graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
