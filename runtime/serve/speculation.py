"""The field of a request that says how it is drafted for."""

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from ...controller.errors import InputError
from ...controller.policies.base import ShapePolicy
from ...controller.policies.selector import Selector
from ...controller.policies.sequoia import static_selector
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.narrow import NarrowScorer
from ...controller.trees.limits import LARGEST, TreeLimits
from ...controller.trees.shapes import Path, check_paths
from .constraints import Part
from .whole import AS_WHOLE

Rank = Annotated[int, Field(ge=0, lt=LARGEST.width), AS_WHOLE]
Ranks = Annotated[list[Rank], Field(min_length=1, max_length=LARGEST.max_depth)]


class StaticTree(Part):
    """`speculation.tree` of the command."""

    tree: Annotated[list[Ranks], Field(min_length=1, max_length=LARGEST.budget)]

    @field_validator("tree")
    @classmethod
    def _with_parents(cls, tree: list[list[int]]) -> list[list[int]]:
        try:
            check_paths([*map(tuple, tree)])
        except InputError as error:
            raise PydanticCustomError("tree", "{message}", {"message": str(error)}) from error
        return tree

    @property
    def policy(self) -> ShapePolicy:
        return _static(frozenset(map(tuple, self.tree)))


class TreeSizes(Part):
    depth: Annotated[int, Field(ge=1, le=LARGEST.max_depth), AS_WHOLE]
    width: Annotated[int, Field(ge=1, le=LARGEST.width), AS_WHOLE]
    budget: Annotated[int, Field(ge=1, le=LARGEST.budget), AS_WHOLE]


class DynamicTree(Part):
    """`speculation.dynamic` of the command."""

    dynamic: TreeSizes

    @property
    def policy(self) -> ShapePolicy:
        sizes = self.dynamic
        return _dynamic(sizes.depth, sizes.width, sizes.budget)


def _kind(speculation: Any) -> str | None:
    """The one member of the union to check, so that an error names what was sent; none is called as a field is, for
    these names are part of where an error is."""
    match speculation:
        case "off" | "auto":
            return "a word"
        case {"tree": _}:
            return "static"
        case {"dynamic": _}:
            return "grown"
    return None


Speculation = Annotated[
    Annotated[Literal["off", "auto"], Tag("a word")]
    | Annotated[StaticTree, Tag("static")]
    | Annotated[DynamicTree, Tag("grown")],
    Discriminator(
        _kind,
        custom_error_type="speculation_kind",
        custom_error_message='give "off", "auto", a "tree" or the sizes of a "dynamic" one',
    ),
]
"""Nothing, what the server was told, or a tree of the request's own"""


# One policy for all requests that ask for the same: those of a batch then decide together.
@lru_cache(maxsize=64)
def _static(paths: frozenset[Path]) -> ShapePolicy:
    return static_selector(sorted(paths, key=lambda path: (len(path), path)))


@lru_cache(maxsize=64)
def _dynamic(depth: int, width: int, budget: int) -> ShapePolicy:
    """EAGLE-2's, under a drafter that gives nodes more children."""
    return Selector(NarrowScorer(ConfidenceScorer(), width), TreeLimits.dynamic(depth, width, budget))
