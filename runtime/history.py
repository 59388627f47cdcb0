"""Keeps each request's history from the target's rows at the tokens a step committed."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..controller.learned.history import START, advance
from ..controller.trees.tree import DraftTree
from .machine.transfer import to_device, to_host
from .sampling import TokenSampler
from .surprise import Surprises, surprise
from .verification.base import Verdict


class TextHistory:
    """`values` [B, H] in the order of `controller.history.HISTORY`; float64, to be those of a text read at once."""

    def __init__(self) -> None:
        self.values = np.zeros((0, len(START)))

    def join(self) -> None:
        """One more text, behind the others."""
        self.values = np.concatenate((self.values, START.astype(np.float64)[None]))

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the others leave."""
        self.values = self.values[list(slots)]

    def record(self, tree: DraftTree, rows: Tensor, verdict: Verdict, sampler: TokenSampler) -> None:
        """Add the accepted path and the next token of each text, by the target's logits `rows` [B, N, V], where the
        verdict does not say how the target saw them."""
        counts = verdict.accepted_lengths + 1
        slots = np.arange(len(counts))[:, None]
        path = verdict.path[:, : counts.max() - 1]
        above = np.concatenate((np.zeros_like(slots), np.maximum(path, 0)), axis=1)  # [B, A]: drawn from these rows
        if verdict.surprises is None:
            drawn = np.concatenate((tree.tokens[slots, np.maximum(path, 0)], np.zeros_like(slots)), axis=1)
            drawn[slots[:, 0], counts - 1] = verdict.next_tokens
            flat = to_device(np.stack((slots * rows.shape[1] + above, drawn)), rows.device)
            surprises = Surprises(*to_host(*surprise(sampler.warp(rows.flatten(0, 1)[flat[0]]), flat[1])))
        else:
            surprises = Surprises(*(numbers[slots, above] for numbers in verdict.surprises))
        histories, columns = self.values.tolist(), (column.tolist() for column in surprises)
        for slot, (count, log_probs, entropies) in enumerate(zip(counts.tolist(), *columns, strict=True)):
            for log_prob, entropy in zip(log_probs[:count], entropies[:count], strict=True):
                histories[slot] = advance(histories[slot], log_prob, entropy)
        self.values = np.array(histories)
