"""`verify` draws from what `law` says: counted over many steps, on one drafted tree."""

import drawn
import numpy as np
import pytest
from scipy.stats import power_divergence
from treewright.runtime.verification import get_verifier

VOCABULARY_SIZE = 3
NUM_STEPS = 3000
# A sound verifier falls below this once in ten thousand seeds; the seeds here are fixed.
LEAST_P_VALUE = 1e-4
PATHS = [(0, 1), (2, 1), (0, 0), (0, 1)]


def counts_of(verifier, tree, target_rows, draft_rows):
    """[N, V] how often each end was reached, over steps from different roots."""
    sampler = drawn.sampler_of(target_rows.shape[1])
    counts = np.zeros(tuple(target_rows.shape))
    for position in range(NUM_STEPS):
        verdict = verifier.verify(tree, target_rows.log()[None], draft_rows, sampler, np.array([position]))
        path = verdict.path[0][verdict.path[0] >= 0]
        counts[path[-1] if len(path) else 0, verdict.next_tokens[0]] += 1
    return counts


@pytest.mark.parametrize("name", ["walk", "naive", "specinfer"])
def test_verify_reaches_every_end_as_often_as_the_law_says(name):
    tree = drawn.tree_of_paths(PATHS)
    generator = np.random.default_rng(3)
    target_rows, draft_rows = (drawn.random_rows(generator, 6, VOCABULARY_SIZE) for _ in range(2))
    draft_rows = drawn.inner_rows(tree, draft_rows)
    verifier = get_verifier(name)
    joint = verifier.law(tree, target_rows, draft_rows).joint.numpy()
    assert joint.sum() == pytest.approx(1.0, abs=1e-12)
    counts = counts_of(verifier, tree, target_rows, draft_rows)
    possible = joint > 1e-9
    assert counts[~possible].sum() == 0
    assert power_divergence(counts[possible], joint[possible] * NUM_STEPS).pvalue > LEAST_P_VALUE
