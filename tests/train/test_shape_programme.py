"""The exact value of shape policies against every draft, coin and text of toy models, and its own identities."""

import itertools
from dataclasses import replace
from functools import cache

import drawn
import numpy as np
import pytest
import torch
from tables import TableModel, draws
from treewright.collect.labels.shapes import shape_columns
from treewright.controller.learned.shape_menu import menu_of
from treewright.controller.trees.delayed import BRANCHED, CHAINS, DEEPEST, DelayedShape
from treewright.controller.trees.menu import DELAYED_MENU
from treewright.controller.trees.sided import SidedTrunk
from treewright.runtime.verification import get_verifier
from treewright.train.shapes.labels import ShapeLabels
from treewright.train.shapes.programme import (
    chosen_stops,
    cut_choices,
    least_time,
    times_to_finish,
    visits,
)

LENGTH = 4
VERIFIERS = ("naive", "block", "hybrid-naive", "naive-tree", "specinfer", "spectr")
SHAPES = [
    DelayedShape(*shape) for shape in ((2, 0, 1), (1, 2, 0), (2, 1, 1), (3, 0, 1), (1, 0, 0), (2, 0, 2), (1, 3, 0))
]
TRUNKS = [SidedTrunk(*shape) for shape in ((2, 1), (1, 2), (2, 3), (3, 1), (1, 0), (3, 2), (2, 2))]
TARGET, DRAFTER = TableModel(1, 2), TableModel(2, 2, num_zeros=1)
# Beside a draw, one side or two of three tokens.
SIDED = TableModel(1, 3), TableModel(2, 3, num_zeros=1)


def length_of(verifier):
    """Of the texts."""
    return 3 if verifier == "hybrid-naive" else LENGTH


def models(verifier):
    return SIDED if verifier == "hybrid-naive" else (TARGET, DRAFTER)


def policy(prefix, verifier):
    """A shape that depends on the prefix."""
    number = (3 * len(prefix) + 5 * sum(prefix)) % len(SHAPES)
    if verifier == "hybrid-naive":
        return TRUNKS[number]
    shape = SHAPES[number]
    return DelayedShape(1, shape.depth, 0) if verifier in ("naive", "block") else shape


def cost(shape):
    """Any number that tells shapes apart."""
    return 1.0 + 0.3 * shape.depth + 0.1 * shape.num_nodes


@cache
def process(verifier, prefix=()):
    """The mean cost of the loop behind `prefix`, summed over every tree it may draft and every end of each."""
    left = length_of(verifier) - len(prefix)
    if left == 0:
        return 0.0
    shape = policy(prefix, verifier).within(left - 1)
    total = cost(shape)
    for weight, tree, prefixes in drafted(prefix, shape):
        target_rows, draft_rows = (torch.stack([model(each) for each in prefixes]) for model in models(verifier))
        joint = get_verifier(verifier).distribution(tree, target_rows, drawn.inner_rows(tree, draft_rows)).joint
        for node, token in joint.nonzero().tolist():
            total += weight * float(joint[node, token]) * process(verifier, (*prefixes[node], token))
    return total


def drafted(prefix, shape):
    """Every tree behind `prefix` with its probability, and the prefix of each of its nodes."""
    if isinstance(shape, SidedTrunk):
        for trunk, weight in draws(SIDED[1], prefix, shape.length):
            tree, nodes = with_sides(prefix, trunk, shape.num_children - 1)
            yield weight, tree, [prefix + node for node in nodes]
        return
    for trunk, trunk_weight in draws(DRAFTER, prefix, shape.trunk_length):
        branches = list(draws(DRAFTER, (*prefix, *trunk), shape.branch_length))
        for chosen in itertools.product(branches, repeat=shape.num_paths):
            weight = trunk_weight * np.prod([prob for _, prob in chosen])
            if shape.depth == 0:
                yield weight, drawn.tree_of_prefixes([()]), [prefix]
                continue
            tree = drawn.tree_of_paths([trunk + path for path, _ in chosen], shape.trunk_length)
            prefixes = [prefix]
            for node in range(1, int(tree.num_nodes[0])):
                prefixes.append((*prefixes[tree.parents[0, node]], int(tree.tokens[0, node])))
            yield weight, tree, prefixes


def with_sides(prefix, trunk, num_sides):
    """A drawn trunk, beside each token the drafter's best others, and the path behind `prefix` of each node."""
    nodes = [()]
    for depth, token in enumerate(trunk):
        row = SIDED[1](prefix + trunk[:depth])
        best = [other for other in row.argsort(descending=True).tolist() if other != token and row[other] > 0]
        nodes += [(*trunk[:depth], child) for child in (token, *best[:num_sides])]
    path = [nodes.index(trunk[: depth + 1]) for depth in range(len(trunk))]
    return replace(drawn.tree_of_prefixes(nodes), paths=np.array(path).reshape(1, 1, -1)), nodes


def labels_of(text, verifier):
    """Of one text, through the columns that are stored."""
    target, draft = (
        torch.stack([model(text[:index]) for index in range(len(text))]).log() for model in models(verifier)
    )
    columns = shape_columns(target, draft, torch.tensor(text))
    return ShapeLabels.of(columns, columns["landing"], np.zeros((len(text), len(BRANCHED))))


def choices(text, verifier):
    menu = menu_of(verifier)
    places = np.array([menu.places[policy(text[:index], verifier)] for index in range(len(text))])
    return cut_choices(places, menu)


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_the_mean_over_texts_is_the_mean_over_all_drafts_and_coins(verifier):
    """With shapes that depend on the prefix, equal to rounding."""
    total = 0.0
    for text, weight in draws(models(verifier)[0], (), length_of(verifier)):
        places = choices(text, verifier)
        stops = chosen_stops(labels_of(text, verifier).survival(verifier), places)
        costs = np.array([cost(menu_of(verifier).shapes[place]) for place in places])
        times = times_to_finish(stops, costs)
        total += weight * times[0]
        assert visits(stops) @ costs == pytest.approx(times[0], abs=1e-12)
    # SpecTr's rho is bracketed to 1e-9 in its distribution, and to rounding in its labels.
    assert total == pytest.approx(process(verifier), abs=1e-7 if verifier == "spectr" else 1e-12)


@pytest.mark.parametrize("verifier", ["block", "specinfer"])
def test_no_policy_is_faster_than_the_bound_and_one_is_as_fast(verifier):
    text = next(draws(TARGET, (), LENGTH))[0]
    survival, menu = labels_of(text, verifier).survival(verifier), menu_of(verifier)
    costs = np.tile([cost(shape) for shape in menu.shapes], (LENGTH, 1))
    menu_places = [menu.places[shape] for shape in {shape.within(LENGTH - 1) for shape in menu.shapes}]
    rows = np.arange(LENGTH)
    times = []
    for chosen in itertools.islice(itertools.product(menu_places, repeat=LENGTH), 4000):
        places = cut_choices(np.array(chosen), menu)
        times.append(times_to_finish(chosen_stops(survival, places), costs[rows, places])[0])
    bound = least_time(survival, costs, menu)
    assert bound <= min(times) + 1e-12
    if verifier == "block":  # here those were all policies
        assert bound == pytest.approx(min(times), abs=1e-12)


def test_a_shape_is_cut_to_what_the_rest_of_a_text_can_hold():
    deep = DELAYED_MENU.places[DelayedShape(2, 8, 8)]
    cut = [DELAYED_MENU.shapes[place] for place in cut_choices(np.full(DEEPEST + 2, deep), DELAYED_MENU)]
    assert cut[0] == cut[1] == DelayedShape(2, 8, 8) and cut[2] == DelayedShape(2, 8, 7)
    assert cut[-1] == CHAINS[0] and cut[-2] == CHAINS[1]
