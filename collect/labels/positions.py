"""Labels: one linear teacher-forced pass of both models over text that the target generated.

Positions on the text are a sample of the nodes that a walk can reach, so no drafted tree is needed: at each position
the drafter's candidates are the children it would append there, and the emitted token is the target's choice.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import COUPLED, FIXED, Scheme
from ...controller.trees.children import Children
from ...controller.trees.tree import Array
from ...runtime.drafters.ngrams.model import Forecast, NgramModel
from ...runtime.drafters.ngrams.proposals import besides, filled_up
from ...runtime.engines.base import CachedModel
from ...runtime.machine.transfer import to_device
from ...runtime.sampling import TokenSampler
from ...runtime.schemes.ranked import Besides, Expected, propose
from ..text import sampling_of
from ..trace.schema import PositionRow, TextRow, rank_column
from .rows import TextMemory, warped_rows

# Choices of a seed from here on are for labels; a request's own choices stay far below.
OTHER_CHOICES = 1 << 31


class TextLabels(NamedTuple):
    positions: list[PositionRow]
    num_ties: int


@torch.inference_mode()
def label_text(
    target: CachedModel,
    drafter: CachedModel,
    text: TextRow,
    scheme: Scheme,
    width: int,
    num_draws: int = 1,
    memory: TextMemory | None = None,
) -> TextLabels:
    """A row per generated token and noise draw, the draws of a text side by side, and the number of ties.

    The first draw is the text's own noise. Further draws use the same rows of both models under other noise: the token
    that target and drafter would have drawn; greedy text has none. A tie is a position where the teacher-forced row
    draws another token than was emitted: its two best perturbed scores are closer than the rounding difference between
    the two forwards.

    A `memory` corrects the drafter's rows by what a tree rooted at the token before would know. A tree with a root
    further back knows a few tokens less, the same at all its nodes.
    """
    sampling, prompt_length, tokens = sampling_of(text), text.prompt_length, np.array(text.tokens, dtype=np.int64)
    shared: dict[str, Any] = {"text_id": text.text_id, "document": text.document}
    shared |= {"temperature": text.temperature, "top_p": text.top_p}
    target_scores, draft_scores = warped_rows(target, drafter, text, memory)
    positions = np.arange(prompt_length, len(tokens))
    emitted = tokens[prompt_length:]
    expected = Expected.of(TextNgrams(tokens, prompt_length), width, draft_scores.device)
    fixed = propose(draft_scores[None], None, width, expected)
    rows: list[PositionRow] = []
    num_ties = 0
    for draw in range(1 if sampling.is_greedy else num_draws):
        own = draw == 0
        # Further draws are those of other choices of the same seed, which no text of the run uses.
        choice = sampling.choice if own else OTHER_CHOICES + draw
        of_draw = TokenSampler([replace(sampling, choice=choice)], target.vocabulary_size, target.device)
        noise = of_draw.noise(to_device(positions[None], target.device))
        drawn = (target_scores if noise is None else target_scores + noise[0]).argmax(dim=-1).cpu().numpy()
        if own:
            num_ties = int((drawn != emitted).sum())
        coupled = fixed if noise is None else propose(draft_scores[None], noise, width, expected)
        taken = emitted if own else drawn
        columns = {"position": positions, "draw": np.full(len(positions), draw)}
        columns |= _columns(target_scores, draft_scores, taken, coupled if scheme is COUPLED else fixed)
        columns |= {
            rank_column(of_scheme.name): index_of(taken, _drafted_tokens(candidates))
            for of_scheme, candidates in ((COUPLED, coupled), (FIXED, fixed))
        }
        lists = {name: values.tolist() for name, values in columns.items()}
        by_row = zip(*lists.values(), strict=True)
        rows += [PositionRow(**shared, **dict(zip(lists, values, strict=True))) for values in by_row]
    return TextLabels(rows, num_ties)


def _columns(target_scores: Tensor, draft_scores: Tensor, emitted: Array, candidates: Children) -> dict[str, Any]:
    """Columns [n] or [n, W + 1] of warped rows [n, V], where the target draws `emitted` [n] and the drafter would
    append the `candidates` (B = 1, F = n)."""
    assert candidates.ngram_log_probs is not None and candidates.ngram_top_log_probs is not None
    target_log_probs, draft_log_probs = target_scores.log_softmax(-1), draft_scores.log_softmax(-1)
    target_probs, draft_probs = target_log_probs.exp(), draft_log_probs.exp()
    picked = torch.from_numpy(emitted)[:, None].to(target_scores.device)
    return {
        "emitted": emitted,
        "target_log_prob": target_log_probs.gather(1, picked)[:, 0],
        "draft_log_prob": draft_log_probs.gather(1, picked)[:, 0],
        "target_entropy": torch.special.entr(target_probs).sum(-1),
        "draft_entropy": candidates.entropies[0],
        "draft_top_log_prob": candidates.top_log_probs[0],
        "overlap": torch.minimum(target_probs, draft_probs).sum(-1),
        "candidates": _drafted_tokens(candidates),
        "candidate_log_probs": candidates.log_probs[0],
        "candidate_noisy_log_probs": candidates.noisy_log_probs[0],
        "candidate_ngram_log_probs": candidates.ngram_log_probs[0],
        "ngram_top_log_prob": candidates.ngram_top_log_probs[0],
    }


def _drafted_tokens(children: Children) -> Array:
    """[n, W + 1]; a child that is never drafted matches no token."""
    return np.where(np.isfinite(children.noisy_log_probs[0]), children.tokens[0], -1)


class TextNgrams:
    """What a text's own n-grams say at each generated token; `Ngrams` (see `ranked`) of one text."""

    def __init__(self, tokens: Array, prompt_length: int):
        self._prompt, self._generated = tokens[:prompt_length].tolist(), tokens[prompt_length:].tolist()
        self._count = 0

    def _forecasts(self) -> Iterator[Forecast]:
        """Anew each time, for a forecast holds until the text grows."""
        text = NgramModel(self._prompt)
        for token in self._generated:
            yield text.contexts(()).forecast(self._count)
            text.extend([token])

    def expected(self, count: int) -> Array:
        self._count = count
        return filled_up(self._forecasts(), count)[None]

    def besides(self, candidates: Array) -> Besides:
        return besides(self._forecasts(), candidates)


def index_of(emitted: Array, candidates: Array) -> Array:
    """[n]: column of `candidates` [n, W] that holds `emitted` [n], -1 where none does."""
    matches = candidates == emitted[:, None]
    return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)
