"""Lossless verification of a draft tree. One file per algorithm."""

from ...controller.contract import VERIFIERS
from ...controller.errors import InputError
from .base import Verifier


def get_verifier(name: str) -> Verifier:
    """The verifier called `name`; InputError where there is none."""
    match name:
        case "walk":
            from .walk import WalkVerifier

            return WalkVerifier()
        case "naive":
            from . import naive

            return naive.VERIFIER
        case "naive-tree":
            from . import naive_tree

            return naive_tree.VERIFIER
        case "specinfer":
            from . import specinfer

            return specinfer.VERIFIER
        case "rrsw":
            from . import rrsw

            return rrsw.VERIFIER
        case "spectr":
            from . import spectr

            return spectr.VERIFIER
        case "spectr-fixed":
            from . import spectr

            return spectr.FIXED_RHO_VERIFIER
        case "khisti":
            from . import khisti

            return khisti.VERIFIER
        case "greedy-plus-one":
            from . import greedy_plus_one

            return greedy_plus_one.VERIFIER
        case "block":
            from . import block

            return block.VERIFIER
        case "traversal":
            from . import traversal

            return traversal.VERIFIER
        case "traversal-unmerged":
            from . import traversal

            return traversal.UNMERGED_VERIFIER
        case "hybrid-naive":
            from . import hybrid

            return hybrid.NAIVE_TRUNK_VERIFIER
        case "hybrid-block":
            from . import hybrid

            return hybrid.BLOCK_TRUNK_VERIFIER
        case "hybrid-traversal":
            from . import hybrid

            return hybrid.TRAVERSAL_TRUNK_VERIFIER
        case _:
            raise InputError(f"no verifier is called {name!r}; there are {', '.join(VERIFIERS)}")
