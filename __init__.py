"""treewright: learned draft trees for lossless speculative decoding."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .controller.errors import InputError
    from .runtime.adapters.generate.assistant import assistant_with
    from .runtime.adapters.generate.guest import generate_with
    from .runtime.api import Generation, Model, load
    from .runtime.constraints.settings import Constraints

__all__ = ["Constraints", "Generation", "InputError", "Model", "assistant_with", "generate_with", "load"]

HOMES = {
    "Constraints": "runtime.constraints.settings",
    "InputError": "controller.errors",
    "assistant_with": "runtime.adapters.generate.assistant",
    "generate_with": "runtime.adapters.generate.guest",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562), so that the package itself imports at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'runtime.api')}"), name)
