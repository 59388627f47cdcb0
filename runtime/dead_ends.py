"""Dead ends: places of a text where its constraints leave no token to draw. A request whose text comes to one fails.

Plain decoding takes the token before it and fails at its next step. So a step of trees ends with that token too,
whatever the verifier found behind it: the token becomes the next root, where the next step fails.
"""

from collections.abc import Sequence

from ..controller.errors import InputError
from ..controller.trees.tree import DraftTree
from .entry import Entry
from .processing import TextProcessor
from .verification.base import Verdict


def fail_at_dead_ends(entries: Sequence[Entry]) -> None:
    """End the requests whose texts can go no further."""
    for entry in entries:
        if entry.request.reach is not None:
            try:
                entry.request.reach(entry.sink.token_ids, ())
            except InputError as error:
                entry.sink.fail(error)


def cut_at_dead_ends(verdict: Verdict, tree: DraftTree, processors: Sequence[TextProcessor | None]) -> Verdict:
    """The verdict with each path as long as its text may go on behind it."""
    for slot, processor in enumerate(processors):
        if processor is None or processor.reach is None:
            continue
        path = verdict.path[slot]
        tokens = tree.tokens[slot, path[path >= 0]].tolist()
        reach = processor.reach(processor.token_ids, tokens) if tokens else 0
        if reach < len(tokens):
            path, next_tokens = verdict.path.copy(), verdict.next_tokens.copy()
            path[slot, reach:], next_tokens[slot] = -1, tokens[reach]
            verdict = verdict._replace(path=path, next_tokens=next_tokens)
    return verdict
