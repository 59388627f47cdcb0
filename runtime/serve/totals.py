"""What a server did, for the last line that it prints, and what keeps its texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..prefixes.store import PrefixTotals
from ..request import Request

# Keeps a text that has ended: its request and its token ids, on the decode thread. False where it cannot, for that
# must not end the request.
KeepText = Callable[[Request, Sequence[int]], bool]


@dataclass
class Totals:
    """What the worker has done so far: requests that have ended, however, and their tokens."""

    requests: int = 0
    completion_tokens: int = 0
    texts_recorded: int = 0
    texts_unrecorded: int = 0  # ended, but could not be kept
    prefixes: PrefixTotals = field(default_factory=PrefixTotals)

    def count_text(self, *, kept: bool) -> None:
        self.texts_recorded += kept
        self.texts_unrecorded += not kept
