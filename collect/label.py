"""Labels: one linear teacher-forced pass of both models over text the target wrote.

On-text positions sample the population of nodes a walk can reach, so no drafted tree is needed: at each position the
drafter's candidates are what it would hang there, and the emitted token says which of them the target took.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..controller.contract import COUPLED, LawTerms
from ..controller.tree import Array
from ..runtime.backends.base import CHUNK, CachedModel
from ..runtime.drafters.law import propose
from ..runtime.sampling import Sampling, TokenSampler


def read_rows(model: CachedModel, tokens: Array, first: int) -> Tensor:
    """[n - first - 1, V] logits of one text's tokens [n], from the row that chose token `first + 1` on."""
    model.open(1, len(tokens) + CHUNK)
    rows = []
    for start in range(0, len(tokens) - 1, CHUNK):
        block = tokens[None, start : min(start + CHUNK, len(tokens) - 1)]
        size = block.shape[1]
        logits = model.forward(block, start + np.arange(size)[None], np.tri(size, dtype=bool)[None])
        model.commit(np.arange(size)[None])
        rows.append(logits[0, max(0, first - start) :])
    return torch.cat(rows)


def label_text(
    target: CachedModel,
    drafter: CachedModel,
    tokens: Array,
    prompt_length: int,
    sampling: Sampling,
    law: LawTerms,
    width: int,
) -> tuple[list[dict[str, Any]], int]:
    """One row per generated token (columns of `trace.POSITIONS` less the text's own), and the number of ties.

    A tie is a position where the teacher-forced row draws another token than was emitted: its two best perturbed
    scores are closer than the rounding difference between the two forwards.
    """
    first = prompt_length - 1
    sampler = TokenSampler([sampling], target.vocabulary_size, target.device)
    target_scores = sampler.warp(read_rows(target, tokens, first)[None])
    draft_scores = sampler.warp(read_rows(drafter, tokens, first)[None])
    positions = np.arange(prompt_length, len(tokens))
    noise = sampler.noise(positions[None])
    emitted = tokens[prompt_length:]
    drawn = (target_scores if noise is None else target_scores + noise).argmax(dim=-1)[0].cpu().numpy()

    target_log_probs, draft_log_probs = target_scores[0].log_softmax(-1), draft_scores[0].log_softmax(-1)
    target_probs, draft_probs = target_log_probs.exp(), draft_log_probs.exp()
    picked = torch.from_numpy(emitted)[:, None].to(target.device)
    candidates = propose(draft_scores, noise if law is COUPLED else None, width)
    fixed = propose(draft_scores, None, width)
    # A candidate the sampling cut is never drafted; its token matches nothing.
    tokens_drafted = np.where(np.isfinite(candidates.noisy_log_probs[0]), candidates.tokens[0], -1)
    columns: dict[str, Any] = {
        "position": positions,
        "emitted": emitted,
        "rank": place_of(emitted, tokens_drafted),
        "fixed_rank": place_of(emitted, np.where(np.isfinite(fixed.log_probs[0]), fixed.tokens[0], -1)),
        "target_log_prob": target_log_probs.gather(1, picked)[:, 0],
        "draft_log_prob": draft_log_probs.gather(1, picked)[:, 0],
        "target_entropy": torch.special.entr(target_probs).sum(-1),
        "draft_entropy": candidates.entropies[0],
        "draft_top_log_prob": candidates.top_log_probs[0],
        "overlap": torch.minimum(target_probs, draft_probs).sum(-1),
        "candidates": tokens_drafted,
        "candidate_log_probs": candidates.log_probs[0],
        "candidate_noisy_log_probs": candidates.noisy_log_probs[0],
    }
    lists = {name: values.tolist() for name, values in columns.items()}
    rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return rows, int((drawn != emitted).sum())


def place_of(emitted: Array, candidates: Array) -> Array:
    """[n]: column of `candidates` [n, W] that holds `emitted` [n], -1 where none does."""
    matches = candidates == emitted[:, None]
    return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)
