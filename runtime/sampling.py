"""Sampling: all warping of logits and all drawing of tokens is done here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..controller.errors import InputError
from ..controller.ranges import require_between, require_whole
from ..controller.trees.tree import Array
from .cut import Limits, cut
from .machine.transfer import to_device, to_host
from .noise import KeyedNoise, StepNoise, at_positions, noise_key
from .philox import gumbel_rows
from .processing import TextProcessor
from .surprise import Draws, Surprises, surprise

# Below it, the best float32 logits of a row lie further apart than noise reaches, unless they are equal; and far below
# it, logits over the temperature leave the number format.
LEAST_TEMPERATURE = 1e-12
# Below it, logits over the temperature may be so large that adding noise to equal ones no longer parts them; counted
# from the best of their row they are not.
SMALL_TEMPERATURE = 0.01
# On the host, the noise of n chosen tokens takes as long as that of 2 n and this many neighbours.
CHOOSING = 1 << 14


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
        self.processors: list[TextProcessor | None] = [None] * len(samplings)  # of logits that are not yet warped
        self.vocabulary_size = vocabulary_size
        self._noise = [self._noise_of(sampling) for sampling in samplings]
        self._settle(samplings)

    def join(self, sampling: Sampling, processor: TextProcessor | None = None, noise: KeyedNoise | None = None) -> None:
        """One more text, behind the others, with its `noise` where that is kept elsewhere too."""
        self.processors.append(processor)
        self._noise.append(noise or self._noise_of(sampling))
        self._settle([*self.samplings, sampling])

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the others leave."""
        self.processors = [self.processors[slot] for slot in slots]
        self._noise = [self._noise[slot] for slot in slots]
        self._settle([self.samplings[slot] for slot in slots])

    def _settle(self, samplings: Sequence[Sampling]) -> None:
        """All that follows from the settings of the texts."""
        self.samplings = list(samplings)
        is_greedy = [s.is_greedy for s in samplings]
        temperatures = np.array([0.0 if s.is_greedy else s.temperature for s in samplings])
        self.temperatures = temperatures.astype(np.float32)
        self.top_ps = np.array([s.top_p for s in samplings], dtype=np.float32)
        scales = np.where(temperatures > 0, temperatures, 1.0)
        self._scaled = bool((scales != 1.0).any())
        self._some_small = bool((scales < SMALL_TEMPERATURE).any())
        self._some_greedy = any(is_greedy)
        self._cut_slots = [slot for slot, s in enumerate(samplings) if not s.is_greedy and (s.top_k > 0 or s.top_p < 1)]
        cut_ones = [samplings[slot] for slot in self._cut_slots]
        top_ks, top_ps = [s.top_k for s in cut_ones], [s.top_p for s in cut_ones]
        self._limits = Limits.of(top_ks, top_ps, self.vocabulary_size, self.device)
        keys = np.array([noise_key(s.seed, s.choice, 0) for s in samplings], dtype=np.int64).reshape(-1, 4)
        columns = np.concatenate((keys, np.array(is_greedy, dtype=np.int64)[:, None]), axis=1)
        slots = np.pad(self._cut_slots, (0, len(samplings) - len(cut_ones))).astype(np.int64)
        sent = to_device(np.concatenate((columns.T, scales.view(np.int64)[None], slots[None])), self.device)
        self._keys, self._greedy = sent[:4].T, sent[4].bool()
        self._scales = sent[5].view(torch.float64)
        self._cut_there = sent[6, : len(cut_ones)]

    def _noise_of(self, sampling: Sampling) -> KeyedNoise:
        return KeyedNoise(sampling.seed, sampling.choice, self.vocabulary_size)

    def warp(self, logits: Tensor) -> Tensor:
        """[B, ..., V] scores: logits / T, but for a constant of the row, with top-k, then top-p, cut to -inf; logits as
        they are at T = 0."""
        scores = self._scaled_down(logits, slice(None))
        if not self._cut_slots:
            return scores
        if len(self._cut_slots) == len(self.samplings):
            return cut(scores, self._limits)
        scores = scores.clone()
        scores[self._cut_there] = cut(scores[self._cut_there], self._limits)
        return scores

    def _warp_one(self, row: Tensor, slot: int) -> Tensor:
        """[V] the same of a row of one text."""
        scores = self._scaled_down(row[None], slice(slot, slot + 1))
        if slot in self._cut_slots:
            scores = cut(scores, self._limits.of_text(self._cut_slots.index(slot)))
        return scores[0]

    def _scaled_down(self, logits: Tensor, slots: slice) -> Tensor:
        """[B, ..., V] of logits of the texts in `slots`."""
        scores = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        scores = scores[..., : self.vocabulary_size]
        if not self._scaled:
            return scores
        scales = self._scales[slots].to(scores.dtype).view(-1, *[1] * (scores.dim() - 1))
        if self._some_small:
            best = scores.amax(dim=-1, keepdim=True)
            scores = scores - best.masked_fill(scales >= SMALL_TEMPERATURE, 0.0)
        return scores / scales

    def log_probs(self, logits: Tensor) -> Tensor:
        """[B, ..., V] log of the scheme each text draws its tokens from; at T = 0 one token has all of it."""
        log_probs = self.warp(logits).log_softmax(dim=-1)
        if not self._some_greedy:
            return log_probs
        best = torch.full_like(log_probs, -torch.inf).scatter_(-1, log_probs.argmax(-1, keepdim=True), 0.0)
        return torch.where(self._greedy.view(-1, *[1] * (logits.ndim - 1)), best, log_probs)

    def probs(self, logits: Tensor, slot: int) -> Tensor:
        """[V] the scheme that text `slot` draws a token from, by a row of `logits` [V]; one-hot at T = 0."""
        scores = self._warp_one(logits, slot)
        if self.samplings[slot].is_greedy:
            return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
        return scores.softmax(dim=-1)

    def step_noise(self, slot: int, root_position: int) -> StepNoise:
        """The noise of text `slot`'s decode step from `root_position`, for draws other than the text's own tokens."""
        sampling = self.samplings[slot]
        return StepNoise(sampling.seed, sampling.choice, root_position, self.device)

    def noise(self, positions: Tensor, scores: Tensor | None = None) -> Tensor | None:
        """[B, P, V] for token positions [B, P] int64, zero for greedy texts; None where every text is greedy.

        If it is for warped `scores` [B, ..., V] alone, it may be zero for tokens that are cut from them.
        """
        if self.is_greedy:
            return None
        if self.device.type == "cpu":
            return torch.stack(
                [self._noise_on_host(slot, of_text, scores) for slot, of_text in enumerate(positions.tolist())]
            )
        keys = at_positions(self._keys, positions).flatten(0, 1)
        noise = gumbel_rows(keys, self.vocabulary_size).view(*positions.shape, -1)
        return noise.masked_fill_(self._greedy[:, None, None], 0.0) if self._some_greedy else noise

    def _noise_on_host(self, slot: int, positions: list[int], scores: Tensor | None) -> Tensor:
        """[P, V] of one text."""
        if self.samplings[slot].is_greedy:
            return torch.zeros((len(positions), self.vocabulary_size))
        if scores is not None and slot in self._cut_slots and self.vocabulary_size > CHOOSING:
            best = scores[slot].reshape(-1, self.vocabulary_size).amax(dim=0).numpy()
            survivors = np.nonzero(best > -np.inf)[0]
            if 2 * len(survivors) + CHOOSING < self.vocabulary_size:
                return self._noise[slot].rows_of(positions, survivors)
        return self._noise[slot].rows(positions)

    @property
    def is_greedy(self) -> bool:
        """Whether all texts are, so that there is no noise."""
        return not self.temperatures.any()

    def draw(self, logits: Tensor, positions: Array) -> Array:
        """[B] int64: the target's token for each text at `positions` [B], from its row of `logits` [B, V]."""
        scores = self.warp(logits)
        noise = self.noise(to_device(positions[:, None], self.device), scores)
        if noise is not None:
            scores = scores + noise[:, 0]
        return to_host(scores.argmax(dim=-1))[0]

    def draw_all(self, logits: Tensor, root_positions: Array, depths: Array, *, surprises: bool = False) -> Draws:
        """What `draw` gives behind every node of a tree, from `logits` [B, N, V], after one wait.

        The nodes are `depths` [B, N] below the roots at `root_positions` [B]. With `surprises` or without.
        """
        scores = noisy = self.warp(logits)
        if not self.is_greedy:
            places = root_positions[:, None] + 1 + np.arange(depths.max() + 1)
            sent = to_device(np.concatenate((places, np.maximum(depths, 0)), axis=1), self.device)
            noise = self.noise(sent[:, : places.shape[1]], scores)
            assert noise is not None
            texts = torch.arange(len(depths), device=self.device)[:, None]
            noisy = scores + noise[texts, sent[:, places.shape[1] :]]
        tokens = noisy.argmax(dim=-1)
        host_tokens, *numbers = to_host(tokens, *(surprise(scores, tokens) if surprises else ()))
        return Draws(host_tokens, Surprises(*numbers) if surprises else None)
