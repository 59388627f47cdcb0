"""Lossless verification of a draft tree. One file per algorithm."""

from importlib import import_module

from ...controller.contract import VERIFIERS
from ...controller.errors import InputError
from .base import Verifier

# Where a verifier is not the `VERIFIER` of the module of its name.
OTHERS = {
    "spectr-fixed": ("spectr", "FIXED_RHO_VERIFIER"),
    "traversal-unmerged": ("traversal", "UNMERGED_VERIFIER"),
    "hybrid-naive": ("hybrid", "NAIVE_TRUNK_VERIFIER"),
    "hybrid-block": ("hybrid", "BLOCK_TRUNK_VERIFIER"),
    "hybrid-traversal": ("hybrid", "TRAVERSAL_TRUNK_VERIFIER"),
}


def get_verifier(name: str) -> Verifier:
    """The verifier called `name`; InputError where there is none."""
    if name not in VERIFIERS:
        raise InputError(f"no verifier is called {name!r}; there are {', '.join(VERIFIERS)}")
    module, member = OTHERS.get(name, (name.replace("-", "_"), "VERIFIER"))
    return getattr(import_module(f".{module}", __name__), member)
