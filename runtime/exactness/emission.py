"""The distribution of the text that drafting and verification give, and how far it is from the target's."""

from typing import NamedTuple

import numpy as np
import torch

from ...controller.trees.tree import Array
from ..verification.base import Verifier
from .drafting import ToyDraft
from .models import Prefix, ToyPair


class Emission(NamedTuple):
    text_probs: Array  # [V, ..., V] of the first depth + 1 tokens, continued by the target where fewer were emitted
    block_efficiency: float


def emission(pair: ToyPair, drafts: dict[ToyDraft, float], verifier: Verifier) -> Emission:
    """What one step over `drafts` emits."""
    ends: dict[Prefix, Array] = {}
    for draft, probability in drafts.items():
        target_rows = torch.from_numpy(np.stack([pair.target.row(prefix) for prefix in draft.prefixes]))
        draft_rows = {node: torch.tensor(row, dtype=target_rows.dtype) for node, row in draft.draft_log_probs}
        joint = verifier.distribution(draft.tree, target_rows, [draft_rows]).joint.double().numpy()
        for prefix, row in zip(draft.prefixes, joint, strict=True):
            ends[prefix] = ends.get(prefix, 0.0) + probability * row
    length = max(map(len, ends)) + 1
    text_probs = np.zeros((len(pair.target.row(())),) * length)
    block_efficiency = 0.0
    for prefix, row in ends.items():
        block_efficiency += float(row.sum()) * (len(prefix) + 1)
        for token, probability in enumerate(row):
            text = (*prefix, token)
            text_probs[text] += probability * pair.target.text_probs(length - len(text), text)
    return Emission(text_probs, block_efficiency)


def total_variation(pair: ToyPair, emitted: Emission) -> float:
    """Distance of the emitted text's distribution from the target's: 0 for a lossless pair of draft and verifier."""
    return float(np.abs(emitted.text_probs - pair.target.text_probs(emitted.text_probs.ndim)).sum() / 2)
