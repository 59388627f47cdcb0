"""Traversal's shapes compared by labels alone: what is accepted of its trees is not known given a text.

So there is no programme, and roots do not have the weight that a policy gives them; each counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...controller.checkpoint.shapes import SpeedUps
from ...controller.intervals import Interval, bootstrap_interval
from ...controller.learned.shape_menu import TRAVERSAL, answers_of
from ...controller.learned.shape_model import ShapeModel
from ...controller.plans.setting import temperature_key
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.menu import DELAYED_MENU
from ...controller.trees.tree import Array
from .evaluate import expectations
from .programme import menu_costs
from .rules import is_undelayed
from .texts import ShapeText


@dataclass(frozen=True)
class TraversalRow:
    """On the held-out roots where trees were drafted: tokens per priced millisecond, the tree of each rule being the
    best of its kind on the validation texts' roots. Intervals are over texts."""

    temperature: float
    top_p: float
    roots: int
    trees: dict[str, list[int]]
    x_plain: dict[str, Interval]
    learned_over: dict[str, Interval]


def compare_traversal(
    model: ShapeModel,
    validation: Sequence[ShapeText],
    test: Sequence[ShapeText],
    verifiers: Sequence[str],
    table: LatencyTable,
    speed_ups: SpeedUps,
) -> list[TraversalRow]:
    """A row per kind of sampling with roots on both sides."""
    rows = []
    for kind in sorted({text.kind for text in test}):
        tuned_on, measured = (
            [_drafted(model, text, verifiers, table) for text in side if text.kind == kind]
            for side in (validation, test)
        )
        if sum(map(len, tuned_on)) and sum(map(len, measured)):
            rows.append(_traversal_row(kind, tuned_on, measured, speed_ups[TRAVERSAL][temperature_key(kind[0])]))
    return rows


class Drafted(NamedTuple):
    """The r roots of one text whose trees were drafted, [r, 233] each."""

    lengths: Array  # accepted by Traversal
    expected: Array  # by the network
    costs: Array
    chosen_costs: Array


def _drafted(model: ShapeModel, text: ShapeText, verifiers: Sequence[str], table: LatencyTable) -> Drafted:
    lengths = text.labels.lengths(TRAVERSAL)
    roots = np.isfinite(lengths).all(axis=1)
    fixed, chosen = (menu_costs(table, text.positions, DELAYED_MENU, chosen=chosen)[roots] for chosen in (False, True))
    return Drafted(lengths[roots], expectations(model, text)[roots][:, answers_of(TRAVERSAL, verifiers)], fixed, chosen)


def _traversal_row(
    kind: tuple[float, float], tuned_on: Sequence[Drafted], measured: Sequence[Drafted], speed_up: float
) -> TraversalRow:
    tokens = np.sum([(1.0 + of.lengths).sum(axis=0) for of in tuned_on], axis=0)
    ms = np.sum([of.costs.sum(axis=0) for of in tuned_on], axis=0)
    rates = tokens / ms
    undelayed = np.where(is_undelayed(DELAYED_MENU), rates, -np.inf)
    places = {"fixed": int(rates.argmax()), "fixed, undelayed": int(undelayed.argmax())}

    def totals(of: Drafted, name: str) -> tuple[float, float]:
        rows = np.arange(len(of.lengths))
        if name == "plain":
            return float(len(rows)), float(of.costs[:, 0].sum())
        if name in places:
            return float((1.0 + of.lengths[:, places[name]]).sum()), float(of.costs[:, places[name]].sum())
        worth = of.expected - speed_up * of.chosen_costs / of.costs[:, :1]
        chosen = worth.argmax(axis=1)
        return float((1.0 + of.lengths[rows, chosen]).sum()), float(of.chosen_costs[rows, chosen].sum())

    sums = {name: np.array([totals(of, name) for of in measured]) for name in ("plain", *places, "learned")}

    def ratio(above: str, below: str) -> Interval:
        """Throughput of one over that of another."""
        return bootstrap_interval(
            lambda a, b, c, d, axis=-1: a.sum(axis) / b.sum(axis) / (c.sum(axis) / d.sum(axis)),
            *sums[above].T,
            *sums[below].T,
        ).rounded(4)

    return TraversalRow(
        *kind,
        sum(len(of.lengths) for of in measured),
        {name: DELAYED_MENU.shapes[place].option for name, place in places.items()},
        {name: ratio(name, "plain") for name in sums if name != "plain"},
        {name: ratio("learned", name) for name in places},
    )
