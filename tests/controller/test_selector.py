"""The selector against enumeration: best sub-trees, the choice rule, and the named policies."""

import numpy as np
import pytest
from trees import TableScorer, closed_subsets, context, random_tree
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.objective import HORIZON_STEPS, PRIOR_STEPS, Objective
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.shapes import parse_paths

# A staircase that is neither convex nor even: two nodes are dear, six are not.
NODES = tuple(range(13))
COSTS = (10.0, 10.5, 14.0, 14.1, 14.2, 14.3, 14.4, 19.0, 19.1, 19.2, 24.0, 24.1, 24.2)
TABLE = LatencyTable(
    key={"pair": "toy"},
    batches=(1,),
    contexts=(4096,),
    root_ms=((1.0,),),
    widths=(1, 2, 4),
    draft_ms=(((1.0, 1.1, 1.9),),),
    nodes=NODES,
    verify_ms=((COSTS,),),
)


def some_trees(count=6):
    generator = np.random.default_rng(11)
    for _ in range(count):
        tree = random_tree(generator, levels=3)
        edges = -generator.exponential(0.7, size=tree.tokens.shape[1])
        yield tree, edges


def node_probs(tree, edges):
    return np.exp(tree.path_sums(edges[None])[0])


@pytest.mark.parametrize("budget", [0, 1, 2, 4, 7, 30])
def test_the_kept_tree_is_the_best_subtree_of_its_size(budget):
    for tree, edges in some_trees():
        probs = node_probs(tree, edges)
        kept = Selector(TableScorer(edges), TreeLimits(budget=budget)).begin(context()).keep(tree)[0, 1:]
        size = min(budget, int(tree.num_nodes[0]) - 1)
        best = max(sum(probs[list(nodes)]) for nodes in closed_subsets(tree) if len(nodes) == size)
        assert len(kept) == size
        assert probs[kept].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("theta", [0.005, 0.03, 0.08, 0.2, 1.0])
def test_the_choice_rule_equals_brute_force_on_a_staircase(theta):
    for tree, edges in some_trees():
        probs = node_probs(tree, edges)
        selector = Selector(TableScorer(edges), TreeLimits(budget=12), objective=Objective(TABLE, theta=theta))
        kept = selector.begin(context()).keep(tree)[0, 1:]
        best = max(
            sum(probs[list(nodes)]) - theta * COSTS[len(nodes)] for nodes in closed_subsets(tree) if len(nodes) <= 12
        )
        assert probs[kept].sum() - theta * COSTS[len(kept)] == pytest.approx(best, rel=1e-12)


class RowsScorer(TableScorer):
    """Gives each tree of a batch edges of its own."""

    def __init__(self, edges, coverage=(0.6, 0.2, 0.1)):
        super().__init__(edges, coverage)

    def score(self, tree, context, before=None):
        return super().score(tree, context)._replace(accept=self.edges)


@pytest.mark.parametrize("theta", [0.02, 0.1, 0.3, 0.6])
def test_a_batch_shares_one_size_and_one_width_and_both_equal_brute_force(theta):
    generator = np.random.default_rng(8)
    limits = TreeLimits(max_depth=9, width=3, frontier=4, budget=12)
    for _ in range(6):
        tree = random_tree(generator, batch=3, levels=2)
        scorer = RowsScorer(-generator.exponential(0.7, size=tree.tokens.shape))
        selector = Selector(scorer, limits, objective=Objective(TABLE, theta=theta))
        probs = np.exp(tree.path_sums(scorer.edges))

        def expected(of_trees):
            ordered = [np.append(np.sort(values)[::-1][:12], np.zeros(12)) for values in of_trees]
            return max(sum(values[:n].sum() for values in ordered) - theta * COSTS[n] for n in range(13))

        of_trees = [probs[row, 1:count] for row, count in enumerate(tree.num_nodes)]
        kept = selector.begin(context(3)).keep(tree)
        gained = sum(probs[row, nodes[nodes > 0]].sum() for row, nodes in enumerate(kept))
        assert gained - theta * COSTS[kept.shape[1] - 1] == pytest.approx(expected(of_trees), rel=1e-12)

        gains, most = {0: 0.0}, max((depths == tree.depths.max()).sum() for depths in tree.depths)
        for width, price in ((1, 1.0), (2, 1.1), (4, 1.9)):
            if width > most:
                continue
            grown = []
            for row, values in enumerate(of_trees):
                level = np.sort(probs[row, tree.depths[row] == tree.depths.max()])[::-1][:width]
                grown.append(np.append(values, np.outer(level, (0.6, 0.2, 0.1))))
            gains[width] = expected(grown) - expected(of_trees) - theta * price
        frontier = selector.begin(context(3)).frontier(tree)
        assert frontier.shape[1] == max(gains, key=lambda width: gains[width])


def test_the_search_continues_past_a_node_that_does_not_pay():
    tree = random_tree(np.random.default_rng(2), levels=1)
    table = LatencyTable(
        {"pair": "toy"}, (1,), (64,), ((1.0,),), (1,), (((1.0,),),), (0, 1, 2, 3), (((10.0, 30.0, 30.0, 30.0),),)
    )
    edges = np.log([1.0, 0.5, 0.5, 0.5])
    objective = Objective(table, theta=0.06)  # one node: 0.5 - 1.2 < 0; three nodes: 1.5 - 1.2 > 0
    assert Selector(TableScorer(edges), TreeLimits(), objective=objective).begin(context()).keep(tree).shape == (1, 4)


def test_what_the_nodes_were_expected_to_bring_is_added_up_beside_what_they_brought():
    objective, expected = Objective(TABLE, theta=0.005), 0.0
    for tree, edges in some_trees():
        step = Selector(TableScorer(edges), TreeLimits(budget=12), objective=objective).begin(context())
        kept = step.keep(tree)
        step.record(tree.subtree(kept), [1], np.array([[1, -1]]))
        expected += node_probs(tree, edges)[kept[0, 1:]].sum()
    assert objective.num_expected == pytest.approx(expected) and objective.num_accepted == 6


@pytest.mark.parametrize("theta", [0.01, 0.05, 0.1, 0.3])
def test_a_level_is_drafted_exactly_when_its_expected_gain_exceeds_its_price(theta):
    coverage = (0.6, 0.2, 0.1)
    for tree, edges in some_trees():
        scorer = TableScorer(edges, coverage)
        limits = TreeLimits(max_depth=9, width=3, frontier=4, budget=12)
        frontier = Selector(scorer, limits, objective=Objective(TABLE, theta=theta)).begin(context()).frontier(tree)
        probs = node_probs(tree, edges)
        level = np.nonzero(tree.depths[0] == tree.depths.max())[0]
        level = level[np.argsort(-probs[level], kind="stable")]

        def expected(values):
            ordered = np.sort(values)[::-1][:12]
            return max(ordered[:n].sum() - theta * COSTS[n] for n in range(len(ordered) + 1))

        gains = {0: 0.0}
        for width, price in ((1, 1.0), (2, 1.1), (4, 1.9)):
            if width <= len(level):
                children = np.outer(probs[level[:width]], coverage).ravel()
                gains[width] = expected(np.concatenate((probs[1:], children))) - expected(probs[1:]) - theta * price
        assert frontier.shape[1] == max(gains, key=lambda width: gains[width])


def test_theta_runs_to_the_policys_own_throughput():
    objective = Objective(TABLE)
    assert objective.theta(1.0, batch=1, context=10) == 1 / 10.0
    for _ in range(10_000):
        objective.record(1.0, 3.0, 20.0, batch=1, context=10)
    assert objective.theta(1.0, batch=1, context=10) == pytest.approx(3.0 / 20.0, rel=1e-9)
    assert objective.theta(0.6, batch=1, context=10) == 1 / 10.0


def test_theta_begins_at_plain_decoding_so_that_one_lucky_step_does_not_speak_for_the_run():
    objective = Objective(TABLE)
    objective.record(1.0, 9.0, 30.0, batch=1, context=10)
    decay = 1 - 1 / HORIZON_STEPS
    assert objective.theta(1.0, batch=1, context=10) == pytest.approx(
        (PRIOR_STEPS * decay + 9) / (PRIOR_STEPS * 10.0 * decay + 30)
    )
    assert objective.theta(1.0, batch=1, context=10) < 0.6 * 9 / 30


def test_a_theta_scale_is_that_of_the_nearest_temperature():
    scaled, plain = Objective(TABLE, scale={0.0: 0.5, 0.6: 0.7, 1.0: 2.0}), Objective(TABLE)
    for temperature, scale in ((0.0, 0.5), (0.2, 0.5), (0.4, 0.7), (0.75, 0.7), (0.9, 2.0), (1.5, 2.0)):
        expected = scale * plain.theta(temperature, batch=1, context=10)
        assert scaled.theta(temperature, batch=1, context=10) == expected


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), {0.0: 1.0, 1.0: 0.0}])
def test_a_theta_scale_is_above_zero(scale):
    with pytest.raises(InputError, match="theta_scale is above 0"):
        Objective(TABLE, scale=scale)


@pytest.mark.parametrize("text", ["[(0,), (1,), (0, 0), (0, 1), (0, 0, 0)]", "[[0], [1], [0, 0], [0, 1], [0, 0, 0]]"])
def test_a_static_tree_drafts_and_keeps_its_own_paths(text):
    paths = parse_paths(text)
    scorer = RankScorer.from_paths(paths)
    selector = Selector(scorer, TreeLimits(max_depth=3, width=2, frontier=8, budget=len(paths)))
    tree = random_tree(np.random.default_rng(3), levels=1, width=2)
    assert selector.begin(context()).frontier(tree).tolist() == [[1]]  # only rank 0 has children in this tree
    assert selector.begin(context()).keep(tree).tolist() == [[0, 1, 2]]


def test_a_node_with_an_unsure_next_token_is_not_expanded_by_min_prob():
    tree = random_tree(np.random.default_rng(4), levels=2)
    top = float(np.exp(tree.top_log_probs[0, 1]))
    sure = Selector(ConfidenceScorer(), TreeLimits(), min_prob=top * 0.99).begin(context()).keep(tree)
    unsure = Selector(ConfidenceScorer(), TreeLimits(), min_prob=min(1.0, top * 1.01)).begin(context()).keep(tree)
    assert sure.shape[1] > 1
    assert unsure.tolist() == [[0]]


def test_a_branch_below_path_prob_is_cut():
    tree = random_tree(np.random.default_rng(5), levels=3)
    floor = 0.1
    kept = Selector(ConfidenceScorer(), TreeLimits(), path_prob=floor).begin(context()).keep(tree)[0]
    expected = np.nonzero(np.exp(tree.path_log_probs[0]) >= floor)[0]
    assert kept.tolist() == expected.tolist()


def test_opt_tree_stops_once_a_level_adds_less_than_delta():
    tree, _ = next(some_trees())
    probs = np.exp(tree.path_noisy_log_probs[0])
    gain = probs[tree.depths[0] == tree.depths.max()].sum()
    limits = TreeLimits(max_depth=9, budget=100)
    assert Selector(ConfidenceScorer(), limits, delta=gain * 0.99).begin(context()).frontier(tree).shape[1] > 0
    assert Selector(ConfidenceScorer(), limits, delta=gain * 1.01).begin(context()).frontier(tree).shape[1] == 0


def test_eagle_2_expands_the_best_nodes_of_the_last_level():
    tree = random_tree(np.random.default_rng(6), levels=2)
    level = np.nonzero(tree.depths[0] == 2)[0]
    best = level[np.argsort(-tree.path_noisy_log_probs[0, level], kind="stable")][:2]
    frontier = Selector(ConfidenceScorer(), TreeLimits(frontier=2, budget=99)).begin(context()).frontier(tree)
    assert frontier.tolist() == [best.tolist()]


def test_nothing_is_drafted_deeper_than_the_text_may_still_grow():
    tree = random_tree(np.random.default_rng(7), levels=2)
    selector = Selector(ConfidenceScorer(), TreeLimits())
    assert selector.begin(context(remaining=4)).frontier(tree).shape[1] > 0
    assert selector.begin(context(remaining=3)).frontier(tree).shape[1] == 0


@pytest.mark.parametrize(("name", "value"), [("max_depth", -1), ("width", 0), ("frontier", 0), ("budget", -1)])
def test_an_impossible_limit_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        TreeLimits(**{name: value})


def test_a_stacks_levels_are_the_best_unexpanded_nodes_of_all_depths_each_once():
    for tree, edges in some_trees():
        limits = TreeLimits(max_depth=5, frontier=2, budget=50)
        step = Selector(TableScorer(edges), limits, all_depths=True).begin(context())
        leaves = sorted({*range(1, int(tree.num_nodes[0]))} - {*tree.parents[0].tolist()})
        best = sorted(leaves, key=lambda node: -node_probs(tree, edges)[node])
        asked = [step.frontier(tree)[0].tolist() for _ in range(limits.max_depth + 1)]
        assert [node for level in asked for node in level] == best[: 2 * limits.max_depth]


@pytest.mark.parametrize("is_priced", [False, True])
def test_a_stack_drafts_on_beside_its_deepest_node_where_the_choice_rule_prices_it(is_priced):
    generator = np.random.default_rng(3)
    tree = random_tree(generator, levels=3)
    edges = np.full(tree.tokens.shape[1], -0.3)
    objective = Objective(TABLE, theta=0.001) if is_priced else None
    selector = Selector(TableScorer(edges), TreeLimits(max_depth=3), objective=objective, all_depths=True)
    nodes = selector.begin(context()).frontier(tree)
    assert bool(nodes.size) == is_priced
    assert (tree.depths[0, nodes[0]] < 3).all()


def test_what_a_stack_has_drafted_behind_the_end_of_a_text_is_not_verified():
    tree = random_tree(np.random.default_rng(3), levels=3)
    edges = np.full(tree.tokens.shape[1], -0.3)
    kept = Selector(TableScorer(edges), TreeLimits(), all_depths=True).begin(context(remaining=3)).keep(tree)
    assert tree.depths[0, kept[0]].max() == 2


def test_nodes_without_numbers_are_appended_to_each_tree_behind_its_own():
    generator = np.random.default_rng(4)
    tree = random_tree(generator, batch=2, levels=2, cut=-1)
    sizes = tree.num_nodes
    parents = np.array([[0, sizes[0], 1], [1, -1, -1]])
    grown = tree.with_nodes(np.array([[7, 8, 9], [5, 0, 0]]), parents)
    assert grown.num_nodes.tolist() == [sizes[0] + 3, sizes[1] + 1]
    for row, added in enumerate(([(7, 0), (8, int(sizes[0])), (9, 1)], [(5, 1)])):
        own = slice(int(sizes[row]))
        assert (grown.links[row, own] == tree.links[row, own]).all()
        assert (grown.numbers[row, own] == tree.numbers[row, own]).all()
        for node, (token, above) in enumerate(added, start=int(sizes[row])):
            assert (grown.tokens[row, node], grown.parents[row, node]) == (token, above)
            assert grown.depths[row, node] == grown.depths[row, above] + 1
