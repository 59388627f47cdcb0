"""Greedy multi-draft verification: the top k - 1 tokens D for certain, one draw y from all others (arXiv:2502.18779).

y was drawn from q' = norm(q outside D) and comes first: accept it with min(1, p(y) / q'(y)); refused, draw from
norm((p - q')+), which holds the whole target mass of D, and continue at the child of that token if there is one. A node
accepts with p(D) + sum outside D of min(p, q'), the optimum for such lists. It is the naive tree's rule with y as the
first draw and D as its free siblings.
Cost: one O(V) residual per refused node.
Soundness class: average-lossless. D and its size are chosen before y is drawn.
"""

from .naive import first_draw
from .top_down import TopDown

METHOD = TopDown(first_draw, lands=True)
