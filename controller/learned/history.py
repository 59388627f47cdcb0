"""How the text went so far, as the target saw it: what a step knows before anything is drafted."""

import numpy as np

from ..trees.tree import Array

# Columns of `StepContext.history`, all from the target's own (warped) rows at the tokens it generated.
HISTORY = (
    "last_log_prob",  # of the root token
    "last_entropy",  # nats, of the row the root token was drawn from
    "recent_log_prob",  # exponential mean over about three tokens
    "long_log_prob",  # over about fourteen
)
DECAYS = (0.7, 0.93)
# The values before the target has generated anything: about those of an average token of a small model.
START = np.array((-2.0, 2.0, -2.0, -2.0), dtype=np.float32)
LEAST_LOG_PROB = -8.0


def advance(history: list[float], log_prob: float, entropy: float) -> list[float]:
    """The H values after one more token with the target's `log_prob`, drawn from a row of that `entropy`."""
    clipped = max(log_prob, LEAST_LOG_PROB)
    means = [decay * mean + (1 - decay) * clipped for decay, mean in zip(DECAYS, history[2:], strict=True)]
    return [clipped, entropy, *means]


def histories(log_probs: Array, entropies: Array) -> Array:
    """[n, H]: what is known before each token of one text was generated, from its columns [n]."""
    rows = np.empty((len(log_probs), len(HISTORY)), dtype=np.float32)
    history = START.tolist()
    for number, (log_prob, entropy) in enumerate(zip(log_probs.tolist(), entropies.tolist(), strict=True)):
        rows[number] = history
        history = advance(history, log_prob, entropy)
    return rows
