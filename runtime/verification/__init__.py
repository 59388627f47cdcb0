"""Lossless verification of a draft tree. One file per algorithm."""

from ...controller.contract import NAIVE, SPECINFER, VERIFIERS
from ...controller.errors import InputError
from .base import Verifier


def get_verifier(name: str) -> Verifier:
    """The verifier called `name`; InputError where there is none."""
    match name:
        case "walk":
            from .walk import WalkVerifier

            return WalkVerifier()
        case "naive":
            from .naive import naive
            from .top_down import TopDownVerifier

            return TopDownVerifier(NAIVE, naive, lands=False)
        case "specinfer":
            from .specinfer import specinfer
            from .top_down import TopDownVerifier

            return TopDownVerifier(SPECINFER, specinfer, lands=True)
        case _:
            raise InputError(f"no verifier is called {name!r}; there are {', '.join(sorted(VERIFIERS))}")
