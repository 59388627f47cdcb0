"""The learned score: a checkpoint's network on the host."""

import logging
from collections.abc import Callable

import numpy as np
import onnxruntime

from ..context import StepContext
from ..scorers.siblings import among_siblings
from ..trees.tree import Array, DraftTree
from .features import node_features

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
        self._alone: Array = np.zeros((0, 0), dtype=np.float32)  # [B, N] of `_tree`, each node as an only child
        self._accept: Array = np.zeros((0, 0))  # [B, N] among siblings
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
        # Within a step a tree only grows, and a node's features never change. In a ragged batch some nodes behind the
        # smallest tree's last are asked about again.
        known = int(self._tree.num_nodes.min()) if self._tree is not None and context is self._context else 0
        if known == tree.tokens.shape[1]:  # a level was asked for, but no candidate was left
            self._tree = tree
            return
        features = node_features(tree, context, known)
        answers = self._network(features.reshape(-1, features.shape[-1]))
        alone, coverage = (answer.reshape(*features.shape[:2], *answer.shape[1:]) for answer in answers)
        coverage = np.minimum(coverage, 0.0)  # NaN stays NaN, and the selector drafts nothing under it
        self._note_strange(alone, tree, known)
        if known:
            alone = np.concatenate((self._alone[:, :known], alone), axis=1)
            coverage = np.concatenate((self._coverage[:, :known], coverage), axis=1)
        # Siblings may stand on both sides of `known`, so all are weighed against each other again.
        accept = _trusted(alone, tree)
        accept[:, 0] = 0.0
        self._tree, self._context, self._alone, self._accept, self._coverage = tree, context, alone, accept, coverage

    def _note_strange(self, scores: Array, tree: DraftTree, known: int) -> None:
        """Count the new nodes whose score is no log-probability."""
        num_strange = int((_strange(scores) & (tree.depths[:, known:] > 0)).sum())
        if num_strange and not self.num_distrusted:
            log.warning("the selector answered with no log-probability; the drafter's confidence stands in")
        self.num_distrusted += num_strange


def _trusted(alone: Array, tree: DraftTree) -> Array:
    """[B, N] the nodes among their siblings, by the network's scores of each as an only child; the drafter's confidence
    stands in for what is no finite log-probability."""
    strange = _strange(alone)
    if not strange.any():
        return among_siblings(alone, tree)
    trusted = among_siblings(np.where(strange, -np.inf, alone), tree)
    return np.where(strange, np.minimum(tree.noisy_log_probs, 0.0), trusted)


def _strange(scores: Array) -> Array:
    """Bool, of the shape of `scores`: what is no finite log-probability; NaN compares false."""
    return ~((scores <= 0.0) & (scores > -np.inf))


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A CPU session for an exported selector graph: one thread, no spinning, for the target needs the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about how the graph was exported
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without a fallback it raises; with one it first prints to stdout, which belongs to the result.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
