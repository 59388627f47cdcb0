"""What a step with each delayed tree of the menu costs."""

import numpy as np

from ..trees.delayed import MENU
from ..trees.tree import Array
from .latency import LatencyTable


def shape_costs(table: LatencyTable, context: int, *, chosen: bool) -> Array:
    """[233] milliseconds by the table, equal draws not merged, behind a text of `context` tokens.

    With a shape that was `chosen` by what the drafter says at the root, the first level is paid even where nothing is
    drafted after all.
    """
    widths = [shape.level_widths or [1] * chosen for shape in MENU]
    costs = [
        table.step_ms(of_shape, shape.num_nodes, batch=1, context=context)
        for of_shape, shape in zip(widths, MENU, strict=True)
    ]
    return np.array(costs)
