"""The rules under comparison that choose a shape at every step, each tuned on the same texts as the learned one.

`fixed` is the best tree of the menu at every step, `fixed, undelayed` the best without a trunk before branches. `fixed
trunk` puts a trunk before the branches of the latter, one token shorter than what it accepts on average. `last step`
takes a trunk as long as what the step before accepted, then the branches of the former; a tree without branches is one
token longer than that. Learned rules differ in what they maximise of the expected tokens E and the price T of each
tree: E - theta T with one theta, with the running throughput of the request as theta, or E / T.
"""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import numpy as np

from ...controller.trees.delayed import DEEPEST, LONGEST_TRUNK, DelayedShape
from ...controller.trees.menu import Menu, SettledShape
from ...controller.trees.sided import SidedTrunk
from ...controller.trees.tree import Array
from .policies import PricedText, learned_choices, policy_ms, static_ms
from .programme import chosen_stops, cut_choices, stop_chances, visits

Rule = Callable[[PricedText], float]
"""Expected milliseconds to decode a text."""

NUM_SIMULATED = 8  # decodings of each text where a rule has a running state
PRIOR_STEPS = 8  # plain steps that a running throughput begins with


def rules(tuned_on: Sequence[PricedText], speed_up: float) -> tuple[dict[str, Rule], dict[str, SettledShape]]:
    """By name, and the trees of those that have one; tuned on texts of one kind of sampling under one verifier."""
    totals, menu = np.sum([static_ms(of) for of in tuned_on], axis=0), tuned_on[0].menu
    best = menu.shapes[int(totals.argmin())]
    undelayed = menu.shapes[int(np.where(is_undelayed(menu), totals, np.inf).argmin())]
    trunk = _with_trunk(undelayed, round(mean_accepted(tuned_on, undelayed) - 1.0))
    trees = {"fixed": best, "fixed, undelayed": undelayed, "fixed trunk": trunk}
    found: dict[str, Rule] = {name: _static(shape) for name, shape in trees.items()}
    found["last step"] = lambda of: last_step_ms(of, best)
    found["learned"] = lambda of: policy_ms(of, learned_choices(of, speed_up))
    found["learned, running theta"] = lambda of: running_ms(of, speed_up)
    found["learned, E / T"] = lambda of: policy_ms(of, ratio_choices(of))
    return found, trees


def is_undelayed(menu: Menu) -> Array:
    """[shapes] bool: no trunk before branches."""
    return np.array([not _branches(shape) or shape.trunk_length == 0 for shape in menu.shapes])


def _branches(shape: SettledShape) -> TypeGuard[DelayedShape]:
    return isinstance(shape, DelayedShape) and shape.num_paths > 1


def _static(shape: SettledShape) -> Rule:
    return lambda of: float(static_ms(of)[of.menu.places[shape]])


def _with_trunk(shape: SettledShape, trunk_length: int) -> SettledShape:
    """The branches of a tree behind a trunk of another length; one without branches stays as it is."""
    if not _branches(shape):
        return shape
    return DelayedShape(shape.num_paths, min(max(trunk_length, 0), LONGEST_TRUNK), shape.branch_length)


def _place_after(menu: Menu, shape: SettledShape, accepted: int) -> int:
    """What the rule `last step` takes behind a step that accepted so many, where `shape` is the best."""
    if _branches(shape):
        return menu.places[_with_trunk(shape, accepted)]
    if isinstance(shape, SidedTrunk) and shape.num_children > 1:
        return menu.places[SidedTrunk(shape.num_children, min(accepted + 1, LONGEST_TRUNK))]
    return min(accepted + 1, DEEPEST)  # the chains by length


def mean_accepted(texts: Sequence[PricedText], shape: SettledShape) -> float:
    """Draft tokens accepted per step by one tree at every step."""
    steps = tokens = 0.0
    for of in texts:
        places = cut_choices(np.full(len(of.costs), of.menu.places[shape]), of.menu)
        steps += float(visits(chosen_stops(of.survival, places)).sum())
        tokens += len(places)
    return tokens / steps - 1.0


def ratio_choices(of: PricedText) -> Array:
    """[n] places: the most expected tokens per millisecond."""
    return cut_choices(((1.0 + of.lengths) / of.chosen_costs).argmax(axis=1), of.menu)


def last_step_ms(of: PricedText, shape: SettledShape) -> float:
    """The programme with what the last step accepted as part of its state; the first step takes the tree itself."""
    length = len(of.costs)
    accepted = np.arange(DEEPEST + 1)
    following = [_place_after(of.menu, shape, count) for count in range(DEEPEST + 1)]
    places = np.array([*following, of.menu.places[shape]])
    times = np.zeros((length + 1 + DEEPEST, DEEPEST + 2))  # by what the last step accepted, or first
    for root in range(length - 1, -1, -1):
        cut = of.menu.cuts[min(length - 1 - root, DEEPEST), places]
        stops = stop_chances(of.survival[root, cut])
        times[root] = of.costs[root, cut] + stops @ times[root + 1 + accepted, accepted]
    return float(times[0, -1])


def running_ms(of: PricedText, speed_up: float) -> float:
    """The mean of a few decodings, because theta depends on all steps before: the tokens and milliseconds of this text
    so far, after a few steps at the speed that was tuned."""
    length = len(of.costs)
    generator = np.random.default_rng(length)
    total = 0.0
    for _ in range(NUM_SIMULATED):
        tokens, ms, root, spent = PRIOR_STEPS * speed_up, PRIOR_STEPS * float(of.plain_ms[0]), 0, 0.0
        while root < length:
            place = (of.lengths[root] - tokens / ms * of.chosen_costs[root]).argmax()
            place = of.menu.cuts[min(length - 1 - root, DEEPEST), place]
            chances = stop_chances(of.survival[root, place]).cumsum()
            count = 1 + int(np.searchsorted(chances, generator.random() * chances[-1], side="right"))
            step_ms = float(of.chosen_costs[root, place])
            root, spent, tokens, ms = root + count, spent + step_ms, tokens + count, ms + step_ms
        total += spent
    return total / NUM_SIMULATED
