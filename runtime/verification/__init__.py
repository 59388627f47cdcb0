"""Lossless verification of a draft tree. One file per algorithm."""

from importlib import import_module

from ...controller.contract import VERIFIERS, WALK
from ...controller.errors import InputError
from .base import Verifier
from .sampled_verifier import SampledVerifier
from .walk import WalkVerifier

# Where a sampled tree's verifier is not the `METHOD` of the module of its name.
OTHERS = {
    "spectr-fixed": ("spectr", "FIXED_RHO_METHOD"),
    "traversal-unmerged": ("traversal", "UNMERGED_METHOD"),
    "hybrid-naive": ("hybrid", "NAIVE_TRUNK_METHOD"),
    "hybrid-block": ("hybrid", "BLOCK_TRUNK_METHOD"),
    "hybrid-traversal": ("hybrid", "TRAVERSAL_TRUNK_METHOD"),
}


def get_verifier(name: str) -> Verifier:
    """The verifier called `name`; InputError where there is none."""
    if name not in VERIFIERS:
        raise InputError(f"no verifier is called {name!r}; there are {', '.join(VERIFIERS)}")
    if name == WALK.name:
        return WalkVerifier()
    module, member = OTHERS.get(name, (name.replace("-", "_"), "METHOD"))
    return SampledVerifier(VERIFIERS[name], getattr(import_module(f".{module}", __name__), member))
