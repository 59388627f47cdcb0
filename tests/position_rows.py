"""Position rows worked out by hand: few candidates, numbers one can add up."""

import pyarrow as pa
from treewright.collect.trace.schema import POSITIONS
from treewright.train.data.positions import COLUMNS

SCHEMA = pa.schema([POSITIONS.field(name) for name in COLUMNS])


def row(text_id, position, draw=0, *, ranks=(0, 0), candidates=((-0.5, -0.25), (-2.0, -1.5)), **changes):
    """`ranks` are (coupled, fixed), `candidates` pairs of (log prob, noisy log prob)."""
    return {
        "text_id": text_id,
        "document": f"doc {text_id}",
        "temperature": 1.0,
        "top_p": 1.0,
        "target_log_prob": -1.0,
        "target_entropy": 1.5,
        "draft_entropy": 0.75,
        "draft_top_log_prob": -0.5,
        "ngram_top_log_prob": -3.0,
        "position": position,
        "draw": draw,
        "coupled_rank": ranks[0],
        "fixed_rank": ranks[1],
        "candidate_log_probs": [log_prob for log_prob, _ in candidates],
        "candidate_noisy_log_probs": [noisy for _, noisy in candidates],
        "candidate_ngram_log_probs": [-3.0 - number for number in range(len(candidates))],
    } | changes


def table(*made):
    return pa.Table.from_pylist([*made], schema=SCHEMA)
