"""The exact value of a policy on a recorded text: a backward dynamic programme over its tokens.

Given the text that comes out, the number of draft tokens that a step accepts is drawn from the survival of its tree at
the step's root, independently of other steps. So the expected time of decoding this very text, with a policy that is a
function of the prefix, is V(i) = T(a_i) + sum over d of P(d accepted) V(i + d + 1), and its mean over texts of the
target is that of the live loop: no draft trees, no coins, every root with the weight that the policy itself gives it.
It holds for verifiers whose survival is known given the text; of Traversal only on chains.
"""

import numpy as np

from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.shape_costs import shape_costs
from ...controller.trees.delayed import DEEPEST
from ...controller.trees.menu import Menu
from ...controller.trees.tree import Array


def menu_costs(table: LatencyTable, positions: Array, menu: Menu, *, chosen: bool) -> Array:
    """[n, shapes] milliseconds of a step with each shape of the menu, rooted at `positions` [n] of a text; with the
    root's first level even where nothing is drafted if the shape was `chosen` by it."""
    buckets = np.searchsorted(table.contexts[:-1], positions)
    return np.stack([shape_costs(table, context, menu, chosen=chosen) for context in table.contexts])[buckets]


def cut_choices(places: Array, menu: Menu) -> Array:
    """[n] of the choices [n] at all tokens of a text, what is left of each where the text ends: a step adds one token
    to what it accepts, so that deeper nodes are never emitted."""
    left = np.arange(len(places))[::-1]
    return menu.cuts[np.minimum(left, DEEPEST), places]


def stop_chances(survival: Array) -> Array:
    """[..., 17]: chance that a step accepts exactly 0, 1, ... 16 draft tokens, from the survival [..., 16]."""
    certain, never = np.ones_like(survival[..., :1]), np.zeros_like(survival[..., :1])
    return -np.diff(np.concatenate((certain, survival, never), axis=-1), axis=-1)


def chosen_stops(survival: Array, places: Array) -> Array:
    """[n, 17] stop chances of the choices [n], which are cut already."""
    chosen = survival[np.arange(len(places)), places]
    assert np.isfinite(chosen).all(), "a tree whose survival is not known, or that was not cut"
    return stop_chances(chosen)


def times_to_finish(stops: Array, costs: Array) -> Array:
    """[n + 1]: expected sum of `costs` [n] over the steps from each token to the end of the text, given the chances
    `stops` [n, 17] of a step at each."""
    length = len(stops)
    times = np.zeros(length + 1)
    for root in range(length - 1, -1, -1):
        following = times[root + 1 : root + 2 + DEEPEST]
        times[root] = costs[root] + stops[root, : len(following)] @ following
    return times


def visits(stops: Array) -> Array:
    """[n]: chance that a step of the loop is rooted right before each token."""
    length = len(stops)
    chances = np.zeros(length + DEEPEST + 1)
    chances[0] = 1.0
    for root in range(length):
        chances[root + 1 : root + 2 + DEEPEST] += chances[root] * stops[root]
    return chances[:length]


def least_time(survival: Array, costs: Array, menu: Menu) -> float:
    """What no policy falls below on this text: the best choice at every token, made with the text known."""
    length = len(survival)
    times = np.zeros(length + 1 + DEEPEST)
    for root in range(length - 1, -1, -1):
        possible = np.unique(menu.cuts[min(length - 1 - root, DEEPEST)])
        stops = stop_chances(survival[root, possible])
        times[root] = (costs[root, possible] + stops @ times[root + 1 : root + 2 + DEEPEST]).min()
    return float(times[0])
