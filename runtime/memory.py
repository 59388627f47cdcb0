"""Where a memory of the drafter's errors can be kept."""

import logging

from ..controller.checkpoint import SelectorBundle
from ..controller.errors import InputError
from ..controller.memory import MemoryConfig
from .pair import Pair

log = logging.getLogger(__name__)


def carried_memory(pair: Pair, checkpoint: SelectorBundle) -> MemoryConfig | None:
    """The memory that a selector carries, where the pair's engine can keep it; else one line of warning."""
    if checkpoint.config.memory is not None and pair.drafter.last_layer is None:
        warn_unused(checkpoint, f"engine {pair.drafter.engine}")
        return None
    return checkpoint.config.memory


def warn_unused(checkpoint: SelectorBundle, place: str) -> None:
    """Say that a selector's memory is not kept in such a `place`, if it carries one."""
    if checkpoint.config.memory is not None:
        log.warning("the selector carries a memory of the drafter's errors, which %s does not keep", place)


def require_states(pair: Pair) -> None:
    """InputError where what drafts has no hidden states that a memory could compare."""
    if pair.head is not None:
        raise InputError(
            f"drafter {pair.config.drafter!r} is {pair.head.kind}, and a memory of errors corrects a drafter model by "
            "its own hidden states; leave the memory out"
        )
    if pair.drafter.last_layer is None:
        raise InputError(
            f"engine {pair.drafter.engine!r} gives no hidden states of the drafter, by which a memory of errors finds "
            "what is alike; leave the memory out, or use engine transformers"
        )
