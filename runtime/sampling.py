"""Sampling: all warping of logits and all drawing of tokens is done here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..controller.errors import InputError
from ..controller.ranges import require_between, require_whole
from ..controller.trees.tree import Array
from .machine.transfer import to_device, to_host
from .noise import KeyedNoise, StepNoise

# Tokens that are searched for a mass before all are ordered.
FEW = 1024
# Below it, the best float32 logits of a row lie further apart than noise reaches, unless they are equal; and far below
# it, logits over the temperature leave the number format.
LEAST_TEMPERATURE = 1e-12
# Below it, logits over the temperature may be so large that adding noise to equal ones no longer parts them; counted
# from the best of their row they are not.
SMALL_TEMPERATURE = 0.01


@dataclass(frozen=True)
class Sampling:
    """How one text is sampled: a function of (target, these fields) alone, whichever tree was verified.

    Raises InputError for a field out of range.
    """

    temperature: float = 1.0  # 0, or next to nothing: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    seed: int = 0
    choice: int = 0  # which of several texts for the same prompt and seed

    def __post_init__(self) -> None:
        require_between("temperature", self.temperature, 0, 100)
        for name in ("top_k", "seed", "choice"):
            require_whole(name, getattr(self, name))
        if self.top_k < 0:
            raise InputError(f"top_k is 0 (off) or a positive count, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise InputError(f"top_p is above 0 and at most 1 (off), got {self.top_p}")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed is between 0 and 2^64 - 1, got {self.seed}")
        if not 0 <= self.choice < 2**32:
            raise InputError(f"choice is between 0 and 2^32 - 1, got {self.choice}")

    @property
    def is_greedy(self) -> bool:
        """Whether every token is the target's best, and noise says nothing."""
        return self.temperature < LEAST_TEMPERATURE


class TokenSampler:
    """Samples tokens for a batch of requests by the Gumbel-max rule: argmax of warped logits plus keyed noise.

    A token depends on its request's `Sampling`, row and position alone, so a sampler of one request gives the same.
    """

    def __init__(self, samplings: Sequence[Sampling], vocabulary_size: int, device: torch.device):
        self.device = device
        self._vocabulary_size = vocabulary_size
        self._noise = [self._noise_of(sampling) for sampling in samplings]
        self._settle(samplings)

    def join(self, sampling: Sampling) -> None:
        """One more text, behind the others."""
        self._noise.append(self._noise_of(sampling))
        self._settle([*self.samplings, sampling])

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the others leave."""
        self._noise = [self._noise[slot] for slot in slots]
        self._settle([self.samplings[slot] for slot in slots])

    def _settle(self, samplings: Sequence[Sampling]) -> None:
        """All that follows from the settings of the texts."""
        self.samplings = list(samplings)
        temperatures = [0.0 if s.is_greedy else s.temperature for s in samplings]
        self.temperatures = np.array(temperatures, dtype=np.float32)
        self.top_ps = np.array([s.top_p for s in samplings], dtype=np.float32)
        scales = [temperature or 1.0 for temperature in temperatures]
        self._scales = torch.tensor(scales, dtype=torch.float64, device=self.device)
        self._scaled = any(scale != 1.0 for scale in scales)
        self._some_small = any(scale < SMALL_TEMPERATURE for scale in scales)
        self._cut_slots = [slot for slot, s in enumerate(samplings) if not s.is_greedy and (s.top_k > 0 or s.top_p < 1)]
        self._greedy = torch.tensor([s.is_greedy for s in samplings], device=self.device)
        self._some_greedy = any(s.is_greedy for s in samplings)

    def _noise_of(self, sampling: Sampling) -> KeyedNoise:
        return KeyedNoise(sampling.seed, sampling.choice, self._vocabulary_size)

    def warp(self, logits: Tensor, slots: Sequence[int] | None = None) -> Tensor:
        """[B, ..., V] scores: logits / T, but for a constant of the row, with top-k, then top-p, cut to -inf; logits as
        they are at T = 0.

        The rows are of all texts, or of those in `slots`.
        """
        scores = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        scores = scores[..., : self._vocabulary_size]
        if self._scaled:
            shape = (-1,) + (1,) * (scores.dim() - 1)
            scales = self._scales if slots is None else self._scales[list(slots)]
            scales = scales.to(scores.dtype).view(shape)
            if self._some_small:
                best = scores.amax(dim=-1, keepdim=True)
                scores = scores - best.masked_fill(scales >= SMALL_TEMPERATURE, 0.0)
            scores = scores / scales
        if not self._cut_slots:
            return scores
        scores = scores.clone()
        for row, slot in enumerate(range(len(self.samplings)) if slots is None else slots):
            if slot in self._cut_slots:
                scores[row] = _cut(scores[row], self.samplings[slot].top_k, self.samplings[slot].top_p)
        return scores

    def log_probs(self, logits: Tensor) -> Tensor:
        """[B, ..., V] log of the scheme each text draws its tokens from; at T = 0 one token has all of it."""
        log_probs = self.warp(logits).log_softmax(dim=-1)
        if not self._some_greedy:
            return log_probs
        best = torch.full_like(log_probs, -torch.inf).scatter_(-1, log_probs.argmax(-1, keepdim=True), 0.0)
        return torch.where(self._greedy.view(-1, *[1] * (logits.ndim - 1)), best, log_probs)

    def probs(self, logits: Tensor, slot: int) -> Tensor:
        """[V] the scheme that text `slot` draws a token from, by a row of `logits` [V]; one-hot at T = 0."""
        scores = self.warp(logits[None], [slot])[0]
        if self.samplings[slot].is_greedy:
            return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
        return scores.softmax(dim=-1)

    def step_noise(self, slot: int, root_position: int) -> StepNoise:
        """The noise of text `slot`'s decode step from `root_position`, for draws other than the text's own tokens."""
        sampling = self.samplings[slot]
        return StepNoise(sampling.seed, sampling.choice, root_position, self.device)

    def noise(self, positions: Array) -> Tensor | None:
        """[B, P, V] for token positions [B, P] (zero for greedy texts), None where every text is greedy."""
        if not self.temperatures.any():
            return None
        rows = torch.stack([noise.rows(places) for noise, places in zip(self._noise, positions.tolist(), strict=True)])
        return rows.masked_fill_(self._greedy[:, None, None], 0.0) if self._some_greedy else rows

    def draw(self, logits: Tensor, positions: Array) -> Array:
        """[B] int64: the target's token for each text at `positions` [B], from its row of `logits` [B, V]."""
        scores = self.warp(logits)
        noise = self.noise(positions[:, None])
        if noise is not None:
            scores = scores + noise[:, 0]
        return to_host(scores.argmax(dim=-1))[0]

    def draw_all(self, logits: Tensor, root_positions: Array, depths: Array) -> Array:
        """[B, N] int64: what `draw` gives behind every node of a tree, from `logits` [B, N, V], after one wait.

        The nodes are `depths` [B, N] below the roots at `root_positions` [B].
        """
        scores = self.warp(logits)
        noise = self.noise(root_positions[:, None] + 1 + np.arange(depths.max() + 1))
        if noise is not None:
            texts = torch.arange(len(depths), device=self.device)[:, None]
            scores = scores + noise[texts, to_device(np.maximum(depths, 0), self.device)]
        return to_host(scores.argmax(dim=-1))[0]


def _cut(scores: Tensor, top_k: int, top_p: float) -> Tensor:
    """Mask all but the `top_k` best scores, then all but the smallest set of them that holds mass `top_p`.

    Tokens as good as the least of a set belong to it, so that the cut does not depend on the order of equals.
    """
    if top_k:
        least = scores.topk(min(top_k, scores.shape[-1])).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p < 1:
        total = scores.logsumexp(dim=-1, keepdim=True)
        # The mass is nearly always found among a few tokens; ordering a whole vocabulary takes ten times as long.
        for count in (min(FEW, scores.shape[-1]), scores.shape[-1]):
            ordered = scores.topk(count).values
            probs = (ordered - total).exp()
            is_cut = probs.cumsum(dim=-1) - probs >= top_p
            is_cut[..., 0] = False  # even if the mass asked for rounds to 0
            if is_cut[..., -1].all():
                break
        least = ordered.masked_fill(is_cut, torch.inf).amin(dim=-1, keepdim=True)
        scores = scores.masked_fill(scores < least, -torch.inf)
    return scores
