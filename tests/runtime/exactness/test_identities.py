"""What the verifiers are to each other, and their closed forms, in expectation over all drafts."""

from math import comb, prod

import numpy as np
import pytest
from treewright.controller.contract import IID_PATHS, VERIFIERS, WITHOUT_REPLACEMENT
from treewright.runtime.exactness.drafting import every_run
from treewright.runtime.exactness.emission import emission, total_variation
from treewright.runtime.exactness.growth import GROWTHS, Shape, program
from treewright.runtime.exactness.models import TableModel, ToyPair
from treewright.runtime.verification import get_verifier

FOR_PATHS = [name for name, terms in VERIFIERS.items() if "iid-paths" in terms.schemes and name != "walk"]
PAIRS = [ToyPair.random(3, seed) for seed in range(3)]


def constant(*probs):
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)
    return TableModel(lambda prefix: log_probs)


def step(verifier, pair, shape, scheme=IID_PATHS):
    return emission(pair, every_run(program(scheme, GROWTHS["static"], shape, pair.drafter)), get_verifier(verifier))


def accepted(verifier, pair, shape, scheme=IID_PATHS):
    """Expected accepted tokens."""
    return step(verifier, pair, shape, scheme).block_efficiency - 1


@pytest.mark.parametrize("name", FOR_PATHS)
def test_with_one_draw_every_verifier_that_divides_is_naive_but_for_a_fixed_rho(name):
    for pair in PAIRS:
        overlap = np.minimum(pair.target.row(()), pair.drafter.row(())).sum()
        if name == "spectr-fixed":  # it pays for draws that may still come
            assert accepted(name, pair, Shape(1, 0, 1)) < overlap
        else:
            assert accepted(name, pair, Shape(1, 0, 1)) == pytest.approx(overlap, abs=1e-12)


def test_block_verification_gains_what_its_paper_says():
    pair = ToyPair(constant(1 / 3, 2 / 3), constant(2 / 3, 1 / 3))
    assert accepted("naive", pair, Shape(1, 0, 2)) == pytest.approx(10 / 9, abs=1e-12)
    assert accepted("block", pair, Shape(1, 0, 2)) == pytest.approx(11 / 9, abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS, ids=["0", "1", "2"])
@pytest.mark.parametrize("name", ["traversal", "traversal-unmerged"])
def test_traversal_never_loses_by_another_path_and_starts_from_block(name, pair):
    gains = [accepted(name, pair, Shape(paths, 0, 2)) for paths in (1, 2, 3)]
    assert gains[0] == pytest.approx(accepted("block", pair, Shape(1, 0, 2)), abs=1e-12)
    assert gains[0] < gains[1] < gains[2]


@pytest.mark.parametrize("name", ["naive-tree", "specinfer", "rrsw", "spectr", "khisti"])
@pytest.mark.parametrize("pair", PAIRS, ids=["0", "1", "2"])
def test_paths_are_never_below_their_own_chain(name, pair):
    assert accepted(name, pair, Shape(2, 0, 2)) > accepted("naive", pair, Shape(2, 0, 2))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("pair", PAIRS, ids=["0", "1", "2"])
def test_one_level_has_the_closed_forms(width, pair):
    target, drafter = pair.target.row(()), pair.drafter.row(())
    shape = Shape(width, 0, 1)
    matched, left = np.minimum(target, drafter).sum(), np.maximum(target - drafter, 0)
    landed = (left * (1 - (1 - drafter) ** (width - 1))).sum()
    assert accepted("walk", pair, shape) == pytest.approx((target * (1 - (1 - drafter) ** width)).sum(), abs=1e-12)
    assert accepted("naive-tree", pair, shape) == pytest.approx(matched + landed, abs=1e-12)
    refused, residual = [], target
    for _ in range(width):
        refused.append(np.maximum(residual - drafter, 0).sum())
        residual = np.maximum(residual - drafter, 0) / refused[-1]
    assert accepted("specinfer", pair, shape) == pytest.approx(1 - prod(refused), abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS, ids=["0", "1", "2"])
def test_one_level_is_ranked_up_to_the_optimum(pair):
    """Optimal transport for lists of k i.i.d. draws: 1 - max over sets of tokens of (Q^k - P)."""
    shape = Shape(3, 0, 1)
    order = np.argsort(pair.target.row(()) / pair.drafter.row(()))
    below = np.cumsum(pair.drafter.row(())[order]) ** 3 - np.cumsum(pair.target.row(())[order])
    optimum = 1 - max(0.0, below.max())
    ranked = [accepted(name, pair, shape) for name in ("walk", "naive-tree", "specinfer", "spectr")]
    assert ranked == sorted(ranked)
    assert ranked[-1] <= optimum + 1e-12
    assert accepted("khisti", pair, shape) <= optimum + 1e-12


@pytest.mark.parametrize("pair", PAIRS, ids=["0", "1", "2"])
def test_importance_weighting_of_two_draws_is_optimal(pair):
    order = np.argsort(pair.target.row(()) / pair.drafter.row(()))
    below = np.cumsum(pair.drafter.row(())[order]) ** 2 - np.cumsum(pair.target.row(())[order])
    assert accepted("khisti", pair, Shape(2, 0, 1)) == pytest.approx(1 - max(0.0, below.max()), abs=1e-8)


@pytest.mark.parametrize("name", [name for name in FOR_PATHS if name != "spectr-fixed"])
def test_equal_models_accept_everything(name):
    pair = ToyPair(PAIRS[0].target, PAIRS[0].target)
    assert accepted(name, pair, Shape(2, 0, 2)) == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("name", FOR_PATHS)
def test_disjoint_supports_accept_nothing(name):
    pair = ToyPair(constant(0.4, 0.6, 0.0, 0.0), constant(0.0, 0.0, 0.3, 0.7))
    emitted = step(name, pair, Shape(2, 0, 2))
    assert emitted.block_efficiency == pytest.approx(1.0, abs=1e-12)
    assert total_variation(pair, emitted) < 1e-12


EDGES = {
    "zeros in the drafter": ToyPair(constant(0.2, 0.3, 0.5), constant(0.0, 0.6, 0.4)),
    "zeros in the target": ToyPair(constant(0.0, 0.3, 0.7), constant(0.2, 0.4, 0.4)),
    "one-hot target": ToyPair(constant(0.0, 1.0, 0.0), constant(0.5, 0.2, 0.3)),
    "one-hot drafter": ToyPair(constant(0.3, 0.3, 0.4), constant(0.0, 1.0, 0.0)),
    "both one-hot": ToyPair(constant(0.0, 1.0, 0.0), constant(0.0, 1.0, 0.0)),
}


@pytest.mark.parametrize("name", FOR_PATHS)
@pytest.mark.parametrize("pair", EDGES.values(), ids=EDGES)
def test_edges_of_the_simplex_are_exact(name, pair):
    for scheme in (IID_PATHS, WITHOUT_REPLACEMENT):
        if scheme.name in VERIFIERS[name].schemes:
            assert total_variation(pair, step(name, pair, Shape(2, 0, 2), scheme)) < 1e-12


def test_the_runs_of_a_draft_are_all_there():
    drafts = every_run(program(IID_PATHS, GROWTHS["static"], Shape(2, 0, 1), PAIRS[0].drafter))
    row = PAIRS[0].drafter.row(())
    assert len(drafts) == 3 + 2 * comb(3, 2)  # pairs in order
    by_pair = {tuple(draft.prefixes[path[0]] for path in draft.paths): chance for draft, chance in drafts.items()}
    assert by_pair[(1,), (2,)] == pytest.approx(row[1] * row[2], abs=1e-15)
    assert by_pair[(1,), (1,)] == pytest.approx(row[1] ** 2, abs=1e-15)
