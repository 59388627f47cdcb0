"""The rules under comparison that choose a shape at every step, each tuned on the same texts as the learned one.

`fixed` is the best tree of the menu at every step, `fixed, undelayed` the best without a trunk before branches. `fixed
trunk` puts a trunk before the branches of the latter, one token shorter than what it accepts on average. `last step`
takes a trunk as long as what the step before accepted, then the branches of the former. Learned rules differ in what
they maximise of the expected tokens E and the price T of each tree: E - theta T with one theta, with the running
throughput of the request as theta, or E / T.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ...controller.trees.delayed import DEEPEST, LONGEST_TRUNK, MENU, PLACES, DelayedShape, cut_places
from ...controller.trees.tree import Array
from .policies import PricedText, learned_choices, policy_ms, static_ms
from .programme import chosen_stops, cut_choices, stop_chances, visits

Rule = Callable[[PricedText], float]
"""Expected milliseconds to decode a text."""

UNDELAYED = np.array([shape.trunk_length == 0 or shape.num_paths == 1 for shape in MENU])
NUM_SIMULATED = 8  # decodings of each text where a rule has a running state
PRIOR_STEPS = 8  # plain steps that a running throughput begins with


def rules(tuned_on: Sequence[PricedText], speed_up: float) -> tuple[dict[str, Rule], dict[str, DelayedShape]]:
    """By name, and the trees of those that have one; tuned on texts of one kind of sampling."""
    totals = np.sum([static_ms(of) for of in tuned_on], axis=0)
    best = MENU[int(totals.argmin())]
    undelayed = MENU[int(np.where(UNDELAYED, totals, np.inf).argmin())]
    trunk = _with_trunk(undelayed, round(mean_accepted(tuned_on, undelayed) - 1.0))
    trees = {"fixed": best, "fixed, undelayed": undelayed, "fixed trunk": trunk}
    found: dict[str, Rule] = {name: _static(shape) for name, shape in trees.items()}
    found["last step"] = lambda of: last_step_ms(of, best)
    found["learned"] = lambda of: policy_ms(of, learned_choices(of, speed_up))
    found["learned, running theta"] = lambda of: running_ms(of, speed_up)
    found["learned, E / T"] = lambda of: policy_ms(of, ratio_choices(of))
    return found, trees


def _static(shape: DelayedShape) -> Rule:
    place = PLACES[shape]
    return lambda of: float(static_ms(of)[place])


def _with_trunk(shape: DelayedShape, trunk_length: int) -> DelayedShape:
    """The branches of a tree behind a trunk of another length; a chain stays one."""
    if shape.num_paths == 1:
        return shape
    return DelayedShape(shape.num_paths, min(max(trunk_length, 0), LONGEST_TRUNK), shape.branch_length)


def mean_accepted(texts: Sequence[PricedText], shape: DelayedShape) -> float:
    """Draft tokens accepted per step by one tree at every step."""
    steps = tokens = 0.0
    for of in texts:
        places = cut_choices(np.full(len(of.costs), PLACES[shape]))
        steps += float(visits(chosen_stops(of.survival, places)).sum())
        tokens += len(places)
    return tokens / steps - 1.0


def ratio_choices(of: PricedText) -> Array:
    """[n] places: the most expected tokens per millisecond."""
    return cut_choices(((1.0 + of.lengths) / of.chosen_costs).argmax(axis=1))


def last_step_ms(of: PricedText, shape: DelayedShape) -> float:
    """The programme with what the last step accepted as part of its state; the first step takes the tree itself."""
    length = len(of.costs)
    accepted = np.arange(DEEPEST + 1)
    chains = shape.num_paths == 1
    shapes = [MENU[min(count + 1, DEEPEST)] if chains else _with_trunk(shape, count) for count in range(DEEPEST + 1)]
    places = np.array([PLACES[each] for each in [*shapes, shape]])
    times = np.zeros((length + 1 + DEEPEST, DEEPEST + 2))  # by what the last step accepted, or first
    for root in range(length - 1, -1, -1):
        cut = cut_places()[min(length - 1 - root, DEEPEST), places]
        stops = stop_chances(of.survival[root, cut])
        following = times[root + 1 + accepted, accepted]
        times[root] = of.costs[root, cut] + stops @ following
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
            place = cut_places()[min(length - 1 - root, DEEPEST), place]
            chances = stop_chances(of.survival[root, place]).cumsum()
            count = 1 + int(np.searchsorted(chances, generator.random() * chances[-1], side="right"))
            step_ms = float(of.chosen_costs[root, place])
            root, spent, tokens, ms = root + count, spent + step_ms, tokens + count, ms + step_ms
        total += spent
    return total / NUM_SIMULATED
