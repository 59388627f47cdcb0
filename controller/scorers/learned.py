"""The learned score: a checkpoint's network on the host."""

import logging
from collections.abc import Callable

import numpy as np
import onnxruntime

from ..context import StepContext
from ..features import node_features
from ..tree import Array, DraftTree
from .siblings import among_siblings

log = logging.getLogger(__name__)

INPUT_NAME = "features"
OUTPUT_NAMES = ("accept_log_probs", "coverage_log_probs")

# Features [n, F] float32 to log-probabilities [n] of acceptance, each node without siblings, and [n, W] of coverage.
Network = Callable[[Array], tuple[Array, Array]]


class LearnedScorer:
    """Asks the network about the nodes that are new since the last call: once per drafted level."""

    reads_history = True

    def __init__(self, network: Network):
        self.num_distrusted = 0
        self._network = network
        self._tree: DraftTree | None = None
        self._context: StepContext | None = None
        self._accept: Array = np.zeros((0, 0))  # [B, N] of `_tree`
        self._coverage: Array = np.zeros((0, 0, 0))  # [B, N, W]

    @classmethod
    def from_bytes(cls, graph: bytes) -> "LearnedScorer":
        """The scorer of an exported graph, run by ONNX Runtime."""
        session = open_session(graph)

        def run(features: Array) -> tuple[Array, Array]:
            accept, coverage = session.run(OUTPUT_NAMES, {INPUT_NAME: features})
            return np.asarray(accept), np.asarray(coverage)

        return cls(run)

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        self._predict(tree, context)
        return self._accept

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        self._predict(tree, context)
        return self._coverage

    def _predict(self, tree: DraftTree, context: StepContext) -> None:
        if tree is self._tree and context is self._context:
            return
        # Within a step a tree only grows, and a node's features never change.
        known = int(self._tree.num_nodes.min()) if self._tree is not None and context is self._context else 0
        if known == tree.tokens.shape[1]:  # a level was asked for, but no candidate was left
            self._tree = tree
            return
        features = node_features(tree, context, known)
        answers = self._network(features.reshape(-1, features.shape[-1]))
        accept, coverage = (answer.reshape(*features.shape[:2], *answer.shape[1:]) for answer in answers)
        accept = self._trusted(accept, tree, known)
        coverage = np.minimum(coverage, 0.0)  # NaN stays NaN, and the selector drafts nothing under it
        if known:
            accept = np.concatenate((self._accept[:, :known], accept), axis=1)
            coverage = np.concatenate((self._coverage[:, :known], coverage), axis=1)
        accept[:, 0] = 0.0
        self._tree, self._context, self._accept, self._coverage = tree, context, accept, coverage

    def _trusted(self, scores: Array, tree: DraftTree, known: int) -> Array:
        """[B, N - known] the later nodes among their siblings, by the network's `scores` of each alone; the drafter's
        confidence stands in for what is no finite log-probability."""
        if scores.max() <= 0.0 and scores.min() > -np.inf:  # NaN compares false
            return among_siblings(scores, tree, known)
        strange = ~((scores <= 0.0) & (scores > -np.inf))
        num_strange = int((strange & (tree.depths[:, known:] > 0)).sum())
        if num_strange and not self.num_distrusted:
            log.warning("the selector answered with no log-probability; the drafter's confidence stands in")
        self.num_distrusted += num_strange
        trusted = among_siblings(np.where(strange, -np.inf, scores), tree, known)
        return np.where(strange, np.minimum(tree.noisy_log_probs[:, known:], 0.0), trusted)


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A CPU session for an exported selector graph: one thread, no spinning, for the target needs the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about how the graph was exported
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without a fallback it raises; with one it first prints to stdout, which belongs to the result.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
