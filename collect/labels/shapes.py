"""Labels for the choice of a sampled tree (K, L1, L2) before anything is drawn: what every shape would bring.

For verifiers that settle one node after another, and for block verification, the expected accepted length of every
shape at every position follows from a few numbers per position (see `runtime.verification.rollouts`), so those are
stored, not the 233 labels of each verifier. Traversal has no such form: `cover_trees` drafts trees for it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...controller.learned.agreement import joined
from ...controller.ranges import require_at_least
from ...controller.trees.delayed import MOST_PATHS
from ...controller.trees.sided import MOST_SIDES
from ...controller.trees.tree import Array
from ...runtime.agreement import last_numbers, root_numbers
from ...runtime.engines.base import CachedModel
from ...runtime.surprise import surprise
from ...runtime.verification.rollouts import MULTIPLICITIES, landing_chances, token_ratios, transfer_matrices
from ..trace.schema import ShapeRow, SideRow, TextRow
from .cover_trees import traversal_labels
from .rows import warped_rows

# Of [K, K] matrices the entries that can differ from 0: no more paths run through a token than through the one before.
ROWS, COLUMNS = np.tril_indices(MOST_PATHS)


@dataclass(frozen=True)
class ShapeConfig:
    """The labels from which `train-shapes` learns to choose the shapes of sampled trees."""

    labels: bool = False
    """Store them; texts drawn at temperature 0 get none"""
    every: int = 16
    """Tokens from one root at which trees are drafted for the Traversal verifier to the next"""
    trees: int = 1
    """Trees drafted at such a root per trunk length; 0 leaves Traversal out"""

    def __post_init__(self) -> None:
        require_at_least("shapes.every", self.every, 1)
        require_at_least("shapes.trees", self.trees, 0)


class ShapeRows(NamedTuple):
    shapes: list[ShapeRow]
    sides: list[SideRow]


@torch.inference_mode()
def label_shapes(target: CachedModel, drafter: CachedModel, text: TextRow, config: ShapeConfig) -> ShapeRows:
    """A row of each kind per token that was generated, drawn at a temperature above 0."""
    target_scores, draft_scores = warped_rows(target, drafter, text)
    emitted = np.array(text.tokens[text.prompt_length :], dtype=np.int64)
    columns = shape_columns(target_scores, draft_scores, torch.from_numpy(emitted).to(target_scores.device))
    drafted = traversal_labels(target, drafter, text, every=config.every, num_trees=config.trees)
    landing = columns.pop("landing").tolist()
    lists = {name: values.tolist() for name, values in columns.items()}
    shared = {name: getattr(text, name) for name in ("text_id", "document", "temperature", "top_p")}
    positions = range(text.prompt_length, len(text.tokens))
    shapes = [
        ShapeRow(
            **shared,
            position=position,
            traversal=drafted[position - 1].ravel().tolist() if position - 1 in drafted else [],
            **dict(zip(lists, values, strict=True)),
        )
        for position, values in zip(positions, zip(*lists.values(), strict=True), strict=True)
    ]
    sides = [SideRow(text.text_id, text.document, *row) for row in zip(positions, landing, strict=True)]
    return ShapeRows(shapes, sides)


def shape_columns(target_scores: Tensor, draft_scores: Tensor, tokens: Tensor) -> dict[str, Array]:
    """Columns [n, ...] from warped rows [n, V] of both models before the `tokens` [n] of one text."""
    target_log_probs, draft_log_probs = (scores.double().log_softmax(-1) for scores in (target_scores, draft_scores))
    target_probs, draft_probs = target_log_probs.exp(), draft_log_probs.exp()
    of_tokens, entropies = surprise(target_scores[None], tokens[None])
    last = last_numbers(target_log_probs, draft_log_probs)[:-1]
    columns = {
        "target_log_prob": of_tokens[0].cpu().numpy(),
        "target_entropy": entropies[0].cpu().numpy(),
        "agreement": joined(last.cpu().numpy(), root_numbers(draft_log_probs).cpu().numpy()),
        "ratio": token_ratios(target_probs, draft_probs, tokens).cpu().numpy(),
        "landing": landing_chances(target_probs, draft_probs, tokens, MOST_SIDES).cpu().numpy(),
    }
    for name in ("naive-tree", "specinfer", "spectr"):
        matrices = transfer_matrices(MULTIPLICITIES[name], target_probs, draft_probs, tokens, MOST_PATHS)
        columns[name.replace("-", "_")] = matrices.cpu().numpy()[:, ROWS, COLUMNS]
    return columns
