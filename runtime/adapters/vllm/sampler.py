"""vLLM's sampler, with the product's own noise in place of a generator.

A token is the argmax of vLLM's processed scores plus Gumbel noise keyed to (seed, position, token): an exact sample of
the processed distribution, and a function of the row, the settings and the seed alone. Whatever was drafted, a request
therefore gets the text that it would get without drafts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from vllm.config.model import LogprobsMode
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
from vllm.v1.sample.sampler import Sampler

from ...surprise import surprise
from .texts import GREEDY, Text


class KeyedSampler(Sampler):
    """A `Sampler` of rows whose texts and positions were named before; without, it samples as vLLM does."""

    texts: Sequence[Text | None] = ()
    positions: Sequence[int] = ()
    log_probs: list[float]
    entropies: list[float]

    def name_rows(self, texts: Sequence[Text | None], positions: Sequence[int]) -> None:
        """The next rows choose the tokens at these `positions` of these texts; None for a row that is not asked."""
        self.texts, self.positions = texts, positions

    def sample(
        self, logits: Tensor, sampling_metadata: SamplingMetadata, logprobs_mode_override: LogprobsMode | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if not self.texts:
            return super().sample(logits, sampling_metadata, logprobs_mode_override)
        mode = logprobs_mode_override or self.logprobs_mode
        scores = logits
        if not sampling_metadata.all_greedy:
            temperature = sampling_metadata.temperature
            assert temperature is not None
            scores = self._cut(logits.clone(), temperature, sampling_metadata)
            scores = torch.where((temperature < GREEDY)[:, None], logits, scores)
        noisy = scores + self._noise(scores)
        tokens = noisy.argmax(dim=-1)
        self.log_probs, self.entropies = (
            column[:, 0].tolist() for column in surprise(scores[:, None], tokens[:, None])
        )
        processed = None
        if mode == "processed_logits":
            processed = scores
        elif mode == "processed_logprobs":
            processed = self.compute_logprobs(scores)
        return tokens, processed

    def _cut(self, logits: Tensor, temperature: Tensor, sampling_metadata: SamplingMetadata) -> Tensor:
        scores = self.apply_temperature(logits, temperature, sampling_metadata.all_random)
        for processor in sampling_metadata.logitsprocs.argmax_invariant:
            scores = processor.apply(scores)
        return apply_top_k_top_p(scores, sampling_metadata.top_k, sampling_metadata.top_p)

    def _noise(self, scores: Tensor) -> Tensor:
        noise = torch.zeros_like(scores)
        for row, (text, position) in enumerate(zip(self.texts, self.positions, strict=True)):
            if text is not None and text.noise is not None:
                noise[row] = text.noise.at(position)
        return noise
