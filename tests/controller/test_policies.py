"""Every plan obeys the protocol of a shape policy, and the ones that learn learn what they should."""

from dataclasses import replace

import numpy as np
import plans
import pytest
from sklearn.metrics import roc_curve
from trees import context, random_children, random_tree
from treewright.controller.plans.grids import NUM_TRIALS
from treewright.controller.policies.chains import FIRST_THRESHOLD, EmaChain, ThresholdChain, best_threshold, chain_path
from treewright.controller.policies.ltd import LtdPolicy
from treewright.controller.trees.children import Children
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree

CONFIDENCE = {
    "EMA length",
    "online threshold",
    "EAGLE-2",
    "OPT-Tree",
    "choice, confidence",
    "choice, fused",
    "C2T",
    "LTD",
}
RANK = {"chain", "static", "static, thresholds", "Sequoia"}


def drafted(limits, generator, context, step):
    """The tree a policy grows over random candidates, every frontier checked."""
    tree = DraftTree.from_roots(np.zeros(len(context.remaining), dtype=np.int64))
    while True:
        level, nodes = int(tree.depths.max()), step.frontier(tree)
        if nodes.shape[1] == 0:
            return tree
        assert level < limits.max_depth and nodes.shape[1] <= limits.frontier
        assert (nodes >= 0).any()
        for row, some in enumerate(nodes):
            expanded = some[some >= 0]
            assert (np.diff((some >= 0).astype(int)) <= 0).all()  # padding comes last
            assert len(set(expanded)) == len(expanded)
            assert (tree.depths[row, expanded] == level).all()
            assert len(expanded) == 0 or level < context.max_depths[row]
        tree = tree.extend(nodes, random_children(generator, len(nodes), nodes.shape[1], limits.width))


@pytest.mark.parametrize("key", plans.grids(), ids="/".join)
def test_a_plan_grows_and_keeps_trees_within_its_limits(key):
    generator = np.random.default_rng(1)
    for plan in plans.grids()[key]:
        policy = plan.build()
        for _ in range(6):
            requests = replace(context(4), remaining=np.array([1, 2, 3, 40]))
            step = policy.begin(requests)
            tree = drafted(policy.limits, generator, requests, step)
            nodes = step.keep(tree)
            kept = tree.subtree(nodes)  # asserts that the kept nodes are parent-closed
            for row, some in enumerate(nodes):
                chosen = some[some >= 0]
                assert chosen[0] == 0 and (np.diff(chosen) > 0).all()
                assert len(chosen) - 1 <= policy.limits.budget
                assert (chosen < tree.num_nodes[row]).all()
            step.record(kept, [1], chain_path(generator.integers(0, kept.depths.max(axis=1), endpoint=True)))


def test_every_grid_has_the_same_number_of_trials_under_both_schemes():
    grids = plans.grids()
    assert {family for family, scheme in grids if scheme == "coupled"} == CONFIDENCE | RANK | {"learned"}
    assert {family for family, scheme in grids if scheme == "fixed"} == CONFIDENCE | RANK
    assert {len(grid) for grid in grids.values()} == {NUM_TRIALS}
    assert all(len({plan.text for plan in grid}) == NUM_TRIALS for grid in grids.values())


def test_a_fitted_family_appears_only_under_the_scheme_it_was_fitted_for():
    selector = plans.selector()
    baselines = replace(selector.baselines, c2t={"coupled": plans.C2T}, ltd={"coupled": plans.LTD})
    grids = plans.policy_grids(replace(selector, baselines=baselines), plans.TABLE, ["fixed"], 1.0)
    assert not {"C2T", "LTD", "learned"} & {family for family, _ in grids}


def test_a_new_policy_starts_without_what_another_one_learnt():
    (plan, *_) = plans.grids()["EMA length", "coupled"]
    first = plan.build()
    assert isinstance(first, EmaChain)
    for _ in range(20):
        taught(first, depth=first.depth, accepted=first.depth)
    assert first.depth == plans.LIMITS.max_depth
    another = plan.build()
    assert isinstance(another, EmaChain) and another.depth == 2


def chain_tree(probs) -> DraftTree:
    """A chain of drafted tokens with these probabilities."""
    tree = DraftTree.from_roots(np.array([7]))
    for prob in probs:
        one = np.full((1, 1, 1), np.log(prob), dtype=np.float32)
        children = Children(np.ones((1, 1, 1), dtype=np.int64), one, one, one[:, :, 0], one[:, :, 0])
        tree = tree.extend(tree.num_nodes[:, None] - 1, children)
    return tree


def accepted_of(length):
    return chain_path(np.array([int(length)]))


def taught(policy, *, depth, accepted):
    policy.begin(context()).record(chain_tree([0.5] * depth), [1] * depth, accepted_of(accepted))


@pytest.mark.parametrize("accepted", [0, 1, 2, 3])
def test_the_average_length_follows_what_is_accepted(accepted):
    policy = EmaChain(8, decay=0.8, margin=1.0)
    for _ in range(60):
        taught(policy, depth=policy.depth, accepted=min(policy.depth, accepted))
    assert policy.depth == accepted + 1  # one more than is accepted, so that the end of the chain is seen


def test_a_chain_accepted_to_its_end_counts_one_more():
    policy = EmaChain(8, decay=0.5, margin=0.0)
    policy.average = 3.0
    taught(policy, depth=3, accepted=3)
    assert policy.average == 3.5
    taught(policy, depth=4, accepted=3)
    assert policy.average == 3.25


def test_a_policy_that_stopped_drafting_tries_again():
    policy = EmaChain(8, decay=0.8, margin=0.0)
    policy.average = 0.1
    depths = []
    for _ in range(60):
        depths.append(policy.depth)
        taught(policy, depth=policy.depth, accepted=0)
    assert depths[0] == 0 and set(depths) == {0, 1}


def test_a_chain_cut_short_by_the_texts_end_says_nothing():
    policy = EmaChain(8, decay=0.5, margin=0.0)
    policy.average = 5.0
    taught(policy, depth=2, accepted=2)
    assert policy.average == 5.0


def test_a_chain_ends_at_the_first_unsure_token_and_verifies_it():
    policy = ThresholdChain(8, miss_weight=0.75)
    sure, unsure = chain_tree([0.9, FIRST_THRESHOLD + 0.01]), chain_tree([0.9, FIRST_THRESHOLD - 0.01])
    assert policy.begin(context()).frontier(sure).tolist() == [[2]]
    assert policy.begin(context()).frontier(unsure).shape == (1, 0)
    assert policy.begin(context()).keep(unsure).tolist() == [[0, 1, 2]]


def test_the_threshold_moves_to_where_acceptance_begins():
    policy, generator = ThresholdChain(8, miss_weight=0.75), np.random.default_rng(0)
    for prob in generator.uniform(size=300):
        policy.begin(context()).record(chain_tree([prob]), [1], accepted_of(prob > 0.7))
    assert 0.7 < policy.threshold < 0.72


def test_tokens_behind_the_first_rejected_one_teach_nothing():
    policy = ThresholdChain(8, miss_weight=0.75)
    for _ in range(3):
        policy.begin(context()).record(chain_tree([0.8, 0.3, 0.9]), [1, 1, 1], accepted_of(1))
    # Judged are 0.8 (accepted) and 0.3 (rejected); 0.9 would have moved the threshold had it counted as rejected.
    assert policy.threshold == pytest.approx(0.8)


@pytest.mark.parametrize("miss_weight", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_the_fit_equals_the_best_point_of_scikit_learns_roc_curve(miss_weight, seed):
    generator = np.random.default_rng(seed)
    probs = np.round(generator.uniform(size=80), 2)
    accepted = generator.uniform(size=80) < probs
    false_positives, true_positives, thresholds = roc_curve(accepted, probs, drop_intermediate=False)
    errors = (1 - miss_weight) * false_positives + miss_weight * (1 - true_positives)
    chosen = best_threshold(probs, accepted, miss_weight)
    assert errors[thresholds == chosen] == pytest.approx(errors.min(), abs=1e-12)


def test_the_stop_rule_uses_the_whole_last_level():
    tree = random_tree(np.random.default_rng(3), levels=2)
    probs = np.exp(tree.path_noisy_log_probs[0, tree.depths[0] == 2].astype(np.float64))
    odds = np.dot(plans.LTD.weights, [probs.max(), probs.sum(), 2]) + plans.LTD.bias
    chance = 1 / (1 + np.exp(-odds))
    for gain, goes_on in ((chance * 0.999, True), (chance * 1.001, False)):
        policy = LtdPolicy(plans.LTD, TreeLimits(), gain=gain, floor=1e-9)
        assert (policy.begin(context()).frontier(tree).shape[1] > 0) == goes_on


def test_the_stop_rule_verifies_no_node_below_its_floor():
    tree = random_tree(np.random.default_rng(3), levels=3)
    probs = np.exp(tree.path_noisy_log_probs[0])
    policy = LtdPolicy(plans.LTD, TreeLimits(), gain=0.5, floor=0.2)
    assert policy.begin(context()).keep(tree).tolist() == [np.nonzero(probs >= 0.2)[0].tolist()]


def test_c2t_prunes_the_branches_it_doubts():
    (plan, *_) = plans.grids()["C2T", "coupled"]
    tree, weights = random_tree(np.random.default_rng(8), levels=3), plans.C2T.weights
    values = np.ones(int(tree.num_nodes[0]))
    for node in range(1, len(values)):
        joint = max(tree.path_noisy_log_probs[0, node], -12.0)
        odds = np.dot(weights, [joint, tree.entropies[0, node], tree.depths[0, node]]) + plans.C2T.bias
        values[node] = min(values[tree.parents[0, node]], 1 / (1 + np.exp(-odds)))
    likely = np.nonzero(values >= plan.settings["floor"])[0]
    kept = plan.build().begin(context()).keep(tree)[0]
    assert 1 < len(likely) < len(values)
    assert set(kept) == set(likely[np.argsort(-values[likely], kind="stable")][: plans.LIMITS.budget + 1])
