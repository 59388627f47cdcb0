"""Plausible mistakes are caught by the enumeration: each was found in a public decoder or is one line away."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from treewright.controller.contract import IID_PATHS, VERIFIERS, WITHOUT_REPLACEMENT, Information
from treewright.runtime.exactness.drafting import Drafting, every_run
from treewright.runtime.exactness.emission import emission, total_variation
from treewright.runtime.exactness.growth import GROWTHS, Growth, Shape, program, static
from treewright.runtime.exactness.models import ToyPair
from treewright.runtime.verification import get_verifier
from treewright.runtime.verification.base import StopDistribution
from treewright.runtime.verification.bottom_up import BottomUp
from treewright.runtime.verification.rejection import acceptance, residual
from treewright.runtime.verification.sampled_verifier import SampledVerifier
from treewright.runtime.verification.top_down import TopDown

EXACT = 1e-12
WRONG = 1e-3
PAIR = ToyPair.random(3, 1)
TWO_PATHS = Shape(2, 0, 2)


def distance(verifier, drafts, pair=PAIR):
    return total_variation(pair, emission(pair, drafts, verifier))


def drafts_of(scheme, growth=GROWTHS["static"], shape=TWO_PATHS, pair=PAIR):
    return every_run(program(scheme, growth, shape, pair.drafter))


def changed(drafts, change):
    """The drafts after `change`, with the probabilities of those before."""
    new = {}
    for draft, probability in drafts.items():
        new[change(draft)] = new.get(change(draft), 0.0) + probability
    return new


@pytest.mark.parametrize("name", ["rrsw", "traversal", "naive-tree", "block", "naive"])
def test_top_tokens_are_no_draws(name):
    def take_the_top(choose):
        drafting = Drafting(PAIR.drafter, WITHOUT_REPLACEMENT, lambda probs: int(np.argmax(probs)))
        static(drafting, TWO_PATHS)
        return drafting.draft()

    assert distance(get_verifier(name), every_run(take_the_top)) > WRONG


@pytest.mark.parametrize("name", ["rrsw", "traversal", "naive-tree"])
def test_sorted_siblings_are_no_draws(name):
    def sort(draft):
        order = sorted(
            range(len(draft.prefixes)), key=lambda node: (len(draft.prefixes[node]), likelihood(draft, node))
        )
        indices = {node: index for index, node in enumerate(order)}
        rows = tuple((indices[node], row) for node, row in draft.draft_log_probs)
        return draft._replace(prefixes=tuple(draft.prefixes[node] for node in order), draft_log_probs=rows)

    def likelihood(draft, node):
        prefix = draft.prefixes[node]
        return -PAIR.drafter.row(prefix[:-1])[prefix[-1]] if prefix else 0.0

    drafts = drafts_of(WITHOUT_REPLACEMENT)
    assert distance(get_verifier(name), drafts) < EXACT
    assert distance(get_verifier(name), changed(drafts, sort)) > WRONG


@pytest.mark.parametrize("name", ["specinfer", "spectr", "khisti", "traversal", "naive-tree", "rrsw"])
def test_drawing_more_and_keeping_the_best_is_caught(name):
    def among_two_best(drafting, node):
        siblings = drafting.draws.get(drafting.prefixes.index(drafting.prefixes[node][:-1]), [])
        best = sorted(dict.fromkeys(siblings), key=drafting.path_prob)[-2:]
        return node in best

    best_of_three = Growth(Information.ANYTHING, static, among_two_best)
    scheme = IID_PATHS if "iid-paths" in VERIFIERS[name].schemes else WITHOUT_REPLACEMENT
    assert distance(get_verifier(name), drafts_of(scheme, best_of_three, Shape(3, 0, 1))) > WRONG


@pytest.mark.parametrize("name", ["specinfer", "spectr", "khisti"])
def test_a_trunk_read_as_several_draws_is_caught(name):
    def repeat_the_trunk(draft):
        trunk = draft.paths[0][0]
        return draft._replace(paths=tuple((trunk, *path[1:]) for path in draft.paths))

    drafts = drafts_of(IID_PATHS, shape=Shape(2, 1, 1))
    assert distance(get_verifier(name), drafts) < EXACT
    assert distance(get_verifier(name), changed(drafts, repeat_the_trunk)) > WRONG


def test_skipped_duplicates_are_caught():
    def skip_duplicates(tree, node):
        target_probs, draft_probs = tree.target_probs(node), tree.draft_probs(node)
        for child in tree.distinct_draws(node):
            yield child, acceptance(target_probs, draft_probs, tree.token(child))
            target_probs = residual(target_probs, draft_probs)
        return target_probs

    verifier = SampledVerifier(VERIFIERS["specinfer"], TopDown(skip_duplicates, lands=True))
    assert distance(verifier, drafts_of(IID_PATHS)) > WRONG


class RandomOrder:
    """Recursive rejection that takes the draws under the root in random order."""

    def distribution(self, tree, target_rows, draft_rows):
        counts = range(int((tree.paths[0, :, 0] >= 0).sum()))
        orders = list(itertools.permutations(counts))
        schemes = [
            get_verifier("specinfer").distribution(
                replace(tree, paths=tree.paths[:, list(order)]), target_rows, draft_rows
            )
            for order in orders
        ]
        return StopDistribution(torch.stack([scheme.joint for scheme in schemes]).mean(dim=0))


def test_random_order_is_sound_for_a_fixed_number_of_draws_only():
    assert distance(RandomOrder(), drafts_of(IID_PATHS, shape=Shape(3, 0, 1))) < EXACT
    stopped = drafts_of(IID_PATHS, GROWTHS["stop-siblings"], Shape(3, 0, 1))
    assert distance(get_verifier("specinfer"), stopped) < EXACT
    assert distance(RandomOrder(), stopped) > WRONG


def traversal_tests(tree, pick, update_draft_probs=True, update_target_probs=True):
    """The traversal with another order of tests: `pick` takes one of the nodes without untested children."""
    updated, tested = {}, {}
    untested = {node: tree.distinct_draws(node) for node in range(tree.num_nodes)}

    def state(node):
        """Weight, target's and drafter's row."""
        if node in updated:
            return updated[node]
        weight = 1.0
        if node:
            above, target_probs, draft_probs = state(parent(node))
            weight = min(1.0, above * float(target_probs[tree.token(node)] / draft_probs[tree.token(node)]))
        return weight, tree.target_probs(node), tree.draft_probs(node) if tree.draws(node) else None

    def parent(node):
        return [0, *tree.path(node)][-2]

    while True:
        node = pick(tree, [node for node, children in untested.items() if not children])
        weight, target_probs, _ = state(node)
        yield node, weight, target_probs if update_target_probs else tree.target_probs(node)
        if node == 0:
            return
        del untested[node]
        above = parent(node)
        untested[above] = [child for child in untested[above] if child != node]
        weight, target_probs, draft_probs = state(above)
        rest = (weight * target_probs - draft_probs).clamp_min(0)
        total = float(rest.sum())
        tested.setdefault(above, []).append(node)
        next_draft_probs = tree.draft_probs(above, without=tested[above]) if update_draft_probs else draft_probs
        weight = total / (total + 1 - weight) if total > 0 else 0.0
        updated[above] = weight, rest / total if total > 0 else rest, next_draft_probs


def depth_first(tree, leaves):
    def indices(leaf):
        path = [0, *tree.path(leaf)]
        return [tree.distinct_draws(above).index(node) for above, node in itertools.pairwise(path)] + [9]

    return min(leaves, key=indices)


def deepest_first(tree, leaves):
    return max(leaves, key=lambda leaf: (len(tree.path(leaf)), -leaf))


def smallest_number_first(tree, leaves):
    return min(leaves, key=lambda leaf: leaf or 99)


def number_path_by_path(draft):
    nodes = dict.fromkeys((0, *itertools.chain.from_iterable(draft.paths)))
    indices = {node: index for index, node in enumerate(nodes)}
    return draft._replace(
        prefixes=tuple(draft.prefixes[node] for node in nodes),
        paths=tuple(tuple(indices[node] for node in path) for path in draft.paths),
        draft_log_probs=tuple((indices[node], row) for node, row in draft.draft_log_probs),
    )


def variant(pick, **changes):
    return SampledVerifier(VERIFIERS["traversal"], BottomUp(lambda tree: traversal_tests(tree, pick, **changes)))


def test_the_variants_below_differ_from_the_traversal_in_one_thing_each():
    assert distance(variant(depth_first), drafts_of(IID_PATHS)) < EXACT


def test_the_deepest_leaf_first_is_caught():
    assert distance(variant(deepest_first), drafts_of(IID_PATHS)) > WRONG


def test_the_smallest_leaf_first_is_caught_where_paths_one_and_three_share_a_prefix_that_two_does_not():
    pair, shape = ToyPair.random(2, 3), Shape(3, 0, 2)
    drafts = changed(drafts_of(IID_PATHS, shape=shape, pair=pair), number_path_by_path)
    assert distance(get_verifier("traversal"), drafts, pair) < EXACT
    assert distance(variant(smallest_number_first), drafts, pair) > WRONG
    two_paths = changed(drafts_of(IID_PATHS, shape=TWO_PATHS, pair=pair), number_path_by_path)
    assert distance(variant(smallest_number_first), two_paths, pair) < EXACT
    assert distance(get_verifier("traversal-unmerged"), drafts, pair) < EXACT


def test_a_next_token_from_the_row_before_the_update_is_caught():
    assert distance(variant(depth_first, update_target_probs=False), drafts_of(IID_PATHS)) > WRONG


def test_merged_draws_without_the_update_of_the_drafters_row_are_caught():
    assert distance(variant(depth_first, update_draft_probs=False), drafts_of(IID_PATHS)) > WRONG
