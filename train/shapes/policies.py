"""Policies of shapes on recorded texts, by the exact programme: learned, static, and the bound."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...controller.learned.shape_menu import answers_of, menu_of
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.delayed import DEEPEST
from ...controller.trees.menu import Menu
from ...controller.trees.tree import Array
from .programme import chosen_stops, cut_choices, least_time, menu_costs, stop_chances, times_to_finish
from .texts import ShapeText


class PricedText(NamedTuple):
    """A text under one verifier on one machine, with what a network answers there."""

    text: ShapeText
    menu: Menu
    survival: Array  # [n, shapes, 16]
    costs: Array  # [n, shapes] where the shape is fixed
    chosen_costs: Array  # [n, shapes] where it is chosen at the root
    plain_ms: Array  # [n]
    lengths: Array  # [n, shapes] that a network expects


def priced(
    text: ShapeText, verifier: str, table: LatencyTable, expected: Array, verifiers: Sequence[str]
) -> PricedText:
    """`expected` [n, answers] of a network for `verifiers`."""
    menu, lengths = menu_of(verifier), expected[:, answers_of(verifier, verifiers)]
    fixed, chosen = (menu_costs(table, text.positions, menu, chosen=chosen) for chosen in (False, True))
    return PricedText(text, menu, text.labels.survival(verifier), fixed, chosen, fixed[:, 0], lengths)


def learned_choices(of: PricedText, speed_up: float) -> Array:
    """[n] places on the menu: the largest expected length less theta times the price."""
    return cut_choices((of.lengths - speed_up * of.chosen_costs / of.plain_ms[:, None]).argmax(axis=1), of.menu)


def policy_ms(of: PricedText, places: Array) -> float:
    """Expected milliseconds to decode the text with the choices [n], which are cut and made at the root."""
    costs = of.chosen_costs[np.arange(len(places)), places]
    return float(times_to_finish(chosen_stops(of.survival, places), costs)[0])


def static_ms(of: PricedText) -> Array:
    """[shapes] the same of every shape of the menu used at every step."""
    length, num_shapes = of.costs.shape
    times = np.zeros((length + 1 + DEEPEST, num_shapes))
    for root in range(length - 1, -1, -1):
        places = of.menu.cuts[min(length - 1 - root, DEEPEST)]
        stops = stop_chances(of.survival[root, places])
        following = times[root + 1 : root + 2 + DEEPEST]
        times[root] = of.costs[root, places] + np.einsum("ad,da->a", stops, following)
    return times[0]


def bound_ms(of: PricedText) -> float:
    """What no choice falls below on this text."""
    return least_time(of.survival, of.chosen_costs, of.menu)


def tuned_speed_up(texts: Sequence[PricedText], grid: Sequence[float]) -> float:
    """What a step has to beat so that the texts take the least expected time."""
    totals: Mapping[float, float] = {
        speed_up: sum(policy_ms(of, learned_choices(of, speed_up)) for of in texts) for speed_up in grid
    }
    return min(totals, key=lambda speed_up: totals[speed_up])
