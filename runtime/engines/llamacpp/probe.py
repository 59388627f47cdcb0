"""Whether a GGUF model can be decoded as a tree: a ragged tree is compared with the same paths read one by one.

llama.cpp has architectures whose memory is no cache of rows, or that attend otherwise than by sequence and position.
One that ignored the tree would not fail but generate another text.
"""

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import what_it_says
from ..base import append_text
from ..probe import Rows, examples, tree_logits
from .model import LlamaCppModel

# Largest difference of logits that is rounding, relative to the largest logit, and the share of rows it is asked of, by
# the number format of weights: kernels for one row and for several add up in another order, and where activations are
# rounded to the weights' format, a last bit becomes a step of that.
TOLERANCES = {"all F32": (2e-3, 1.0), "F16": (1e-2, 1.0)}
COARSE_TOLERANCE = (0.1, 0.75)


def tree_error(model: LlamaCppModel, weights: str) -> str | None:
    """How forwards over two trees differ from the text read linearly, in words; None where they agree. The slots of the
    model are lost."""
    tolerance, share = TOLERANCES.get(weights, COARSE_TOLERANCE)
    try:
        for rows in examples(model.vocabulary_size):
            found = tree_logits(model, rows).clone()
            expected = _linear_logits(model, rows)
            difference = (found - expected)[:, : model.vocabulary_size].abs().amax(dim=-1)
            error = float((difference / expected.abs().max()).quantile(share))
            if not error <= tolerance:  # NaN included
                return f"logits behind a tree differ from those of the same text by {error:.1%} of the largest"
    except (RuntimeError, ValueError) as error:
        return f"its forward over a tree fails ({what_it_says(error)})"
    finally:
        model.open(0, 0)
    return None


def _linear_logits(model: LlamaCppModel, rows: Rows) -> Tensor:
    """[n, V] behind the rows that are compared, each path read as a text of its own."""
    logits = []
    for tree, row in rows.compared:
        path = np.append(rows.texts[tree], rows.tokens[tree, rows.paths[row]])
        model.open(1, len(path))
        last = append_text(model, 0, path)
        assert last is not None
        logits.append(last.clone())
    return torch.stack(logits)
