"""Naive speculative sampling whose residual token may be a sibling: the text continues there (NaiveTree in
arXiv:2602.16994).

Accept the first draw x with min(1, p(x) / q(x)); refused, draw from norm((p - q)+) and continue at the child of that
token if there is one. k i.i.d. draws accept with sum min(p, q) + sum (p - q)+ (1 - (1 - q)^(k - 1)).
Cost: one O(V) residual per refused node.
Soundness class: average-lossless, sequential. Siblings of a first draw may be anything, chosen however.
"""

from .naive import first_draw
from .top_down import TopDown

METHOD = TopDown(first_draw, lands=True)
