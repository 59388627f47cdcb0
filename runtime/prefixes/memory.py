"""How much memory a store of prefixes takes, and where there can be none."""

import logging
from collections.abc import Sequence
from math import inf

import torch

from ...controller.errors import InputError, what_it_says
from ...controller.ranges import require_between
from ..engines.base import Session
from ..engines.copying import CopyingModel
from .blocks import BLOCK
from .store import PrefixStore, PrefixTotals

log = logging.getLogger(__name__)

DEFAULT_TOKENS = 8192
MOST_TOKENS = 10**15
DEFAULT_BYTES = 1 << 30
# Of what weights, caches and graphs have left free on a device; logits and the rows of running forwards take the rest.
DEVICE_SHARE = 0.25

KEPT_INSIDE = "the engine keeps the rows of its cache to itself, so every prompt is read whole"


def check_num_tokens(num_tokens: int | None) -> None:
    """InputError for a number that is too small to keep anything, and not 0, or that no machine can hold."""
    if num_tokens:
        require_between("prefix_tokens, if not 0,", num_tokens, BLOCK, MOST_TOKENS)


def open_store(sessions: Sequence[Session], num_tokens: int | None, totals: PrefixTotals) -> PrefixStore | None:
    """A store for the models of these sessions, of up to so many tokens each; 0: none. None: as many as there is
    sensibly memory for, and no store but a line in the log where the engine can have none.

    InputError for a number that cannot be had.
    """
    check_num_tokens(num_tokens)
    if num_tokens == 0:
        return None
    models = [(session.model, session.first_token) for session in sessions]
    copying = [(model, first_token) for model, first_token in models if isinstance(model, CopyingModel)]
    if len(copying) < len(models):
        if num_tokens is None:
            log.warning("prefixes are not reused: %s", KEPT_INSIDE)
            return None
        raise InputError(
            f"prefix_tokens is {num_tokens}, but {KEPT_INSIDE}; leave prefix_tokens out, or use engine transformers"
        )
    row_bytes = sum(model.cache.new_rows(1).nbytes for model, _ in copying)
    free = min(_free_bytes(model.device) for model, _ in copying)
    if num_tokens is None:
        num_tokens = int(min(DEFAULT_TOKENS, min(DEFAULT_BYTES, DEVICE_SHARE * free) // row_bytes))
        if num_tokens < BLOCK:
            log.warning("prefixes are not reused: the device has no memory left for them; lower pair.cache_tokens")
            return None
    taken = f"prefix_tokens {num_tokens} take {num_tokens * row_bytes / 2**30:.1f} GiB"
    if num_tokens * row_bytes > free:
        raise InputError(f"{taken}, and the device has {free / 2**30:.1f} GiB free beside its caches; ask for fewer")
    try:
        return PrefixStore(copying, num_tokens, totals)
    except RuntimeError as error:  # of torch, which knows no other for a lack of memory
        raise InputError(f"{taken}, which cannot be had ({what_it_says(error)}); ask for fewer") from error


def _free_bytes(device: torch.device) -> float:
    """On the host memory is taken as it is written to."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else inf
