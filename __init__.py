"""treewright: learned draft trees for lossless speculative decoding.

>>> model = treewright.load("BIG", "SMALL", selector="runs/selector")
>>> model.generate("def main(", max_tokens=64).text
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .controller.errors import InputError
    from .runtime.api import Generation, Model, load

__all__ = ["Generation", "InputError", "Model", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562), so that the package itself imports at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'controller.errors' if name == 'InputError' else 'runtime.api'}"), name)
