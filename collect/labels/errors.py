"""How well memories of the drafter's errors would have corrected its rows over a recorded text."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...controller.memory import MemoryConfig
from ...controller.trees.tree import Array
from ...runtime.drafters.errors import Errors, KnownErrors, scale_of, scaled_probs
from ...runtime.engines.base import CachedModel
from ...runtime.machine.transfer import to_device
from ...runtime.sampling import TokenSampler
from ..text import sampling_of
from ..trace.schema import TextRow
from .positions import TextNgrams
from .rows import keep_states, read_rows

# Tokens that share a root, about what a step commits.
BLOCK = 4
# What is summed over the generated tokens of a text.
SCORES = (
    "tokens",
    "surprise",  # nats: cross entropy of the target's rows and the drafter's, at the text's temperature
    "first",  # tokens that are the drafter's first choice, ranked with the text's own noise
    "covered",  # tokens among its best `width`, or the first other one that the text's own n-grams expect
    # The same, of tokens whose preceding 4-gram has not occurred in the text before.
    "new_tokens",
    "new_first",
    "new_covered",
)
GRAM = 4


@torch.inference_mode()
def score_memories(
    target: CachedModel, drafter: CachedModel, text: TextRow, memories: Sequence[MemoryConfig | None], width: int
) -> Array:
    """[memories, SCORES] float64 of a text; None is the drafter as it is. The drafter's engine gives hidden states."""
    first, tokens = text.prompt_length - 1, np.array(text.tokens, dtype=np.int64)
    start = max(0, first - max((memory.window for memory in memories if memory is not None), default=0))
    sampler = TokenSampler([sampling_of(text)], target.vocabulary_size, drafter.device)
    keep_states(drafter, True)
    theirs, ours = (read_rows(model, tokens, start) for model in (target, drafter))
    warp = scale_of(sampler.samplings[0]), sampler.vocabulary_size
    probs = scaled_probs(theirs.logits, *warp), scaled_probs(ours.logits, *warp)
    sizes = {memory.entries for memory in memories if memory is not None}
    errors = {size: Errors.of(ours.states, *probs, size) for size in sizes}
    expected = TextNgrams(tokens, text.prompt_length).expected(width + 1)[0]
    is_new = follows_new_gram(tokens)
    scores = np.zeros((len(memories), len(SCORES)))
    for begin in range(first, len(tokens) - 1, BLOCK):
        positions = np.arange(begin, min(begin + BLOCK, len(tokens) - 1))
        rows = slice(begin - start, begin - start + len(positions))
        emitted, by_ngrams = tokens[positions + 1], expected[positions - first]
        noise = sampler.noise(to_device(positions[None] + 1, drafter.device))
        for number, memory in enumerate(memories):
            logits = ours.logits[None, rows]
            if memory is not None:
                known = slice(max(0, begin - start - memory.window), begin - start)
                remembered = Errors(*(column[None, known] for column in errors[memory.entries]))
                logits = KnownErrors.of(memory, remembered).corrected(logits, ours.states[None, rows])
            ranks = _ranks(logits, np.column_stack((emitted, by_ngrams)), noise, sampler)
            is_covered = _is_covered(ranks, emitted, by_ngrams, width)
            hits = np.stack((np.ones_like(is_covered), ranks[:, 0] == 0, is_covered))
            surprise = -(probs[0][rows] * scaled_probs(logits[0], *warp).log().clamp_min(-1e4)).sum()
            sums, new_sums = hits.sum(axis=1), hits[:, is_new[positions]].sum(axis=1)
            scores[number] += (sums[0], float(surprise), *sums[1:], *new_sums)
    return scores


def follows_new_gram(tokens: Array) -> Array:
    """[n] bool, for the token behind each: whether the 4-gram that ends here has not occurred in the text before."""
    seen: set[tuple[int, ...]] = set()
    is_new = np.zeros(len(tokens), dtype=bool)
    for end in range(len(tokens)):
        gram = tuple(tokens[max(0, end + 1 - GRAM) : end + 1].tolist())
        is_new[end] = gram not in seen
        seen.add(gram)
    return is_new


def _is_covered(ranks: Array, emitted: Array, expected: Array, width: int) -> Array:
    """[n] bool, by the `ranks` [n, 1 + E] of the emitted tokens [n] and of what the n-grams expect [n, E], -1 behind
    its last."""
    is_child = (ranks[:, 1:] >= width) & (expected >= 0)
    child = np.take_along_axis(expected, is_child.argmax(axis=1)[:, None], axis=1)[:, 0]
    return (ranks[:, 0] < width) | (is_child.any(axis=1) & (child == emitted))


def _ranks(logits: Tensor, tokens: Array, noise: Tensor | None, sampler: TokenSampler) -> Array:
    """[n, k] of `tokens` [n, k], 0 for the best, by the drafter's `logits` [1, n, V]."""
    scores = sampler.warp(logits)[0]
    noisy = scores if noise is None else scores + noise[0]
    of_tokens = noisy.gather(1, to_device(np.maximum(tokens, 0), noisy.device))
    return (noisy[:, None] > of_tokens[..., None]).sum(-1).cpu().numpy()
