"""What a step with each shape of a menu costs."""

import numpy as np

from ..trees.menu import Menu
from ..trees.tree import Array
from .latency import LatencyTable


def shape_costs(table: LatencyTable, context: int, menu: Menu, *, chosen: bool) -> Array:
    """[shapes] milliseconds by the table, equal draws not merged, behind a text of `context` tokens.

    With a shape that was `chosen` by what the drafter says at the root, the first level is paid even where nothing is
    drafted after all.
    """
    widths = [shape.level_widths or [1] * chosen for shape in menu.shapes]
    costs = [
        table.step_ms(of_shape, shape.num_nodes, batch=1, context=context)
        for of_shape, shape in zip(widths, menu.shapes, strict=True)
    ]
    return np.array(costs)
