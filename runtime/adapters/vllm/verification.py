"""Draw and match: the target's token at a node of the tree, drawn by vLLM's whole pipeline, is followed while drafted.

Depth by depth, each request has one row of logits, as in a step without drafts. Penalties, bad words, minimum lengths
and all other processors of vLLM therefore run unchanged, with the tokens accepted so far as part of the output.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata

from ....controller.trees.tree import Array, DraftTree
from ...verification.base import Verdict
from ...verification.walk import follow
from .sampler import KeyedSampler
from .texts import Text


class Emitted(NamedTuple):
    """What one request takes from a step."""

    tokens: list[int]
    log_probs: list[float]
    entropies: list[float]


class Walk:
    """One verification of a batch. `outputs` are the live lists of emitted tokens that vLLM's processors look at."""

    def __init__(
        self,
        tree: DraftTree,
        logits: Tensor,
        first_rows: Array,
        positions: Array,
        texts: Sequence[Text | None],
        outputs: Sequence[list[int]],
        sampler: KeyedSampler,
        metadata: SamplingMetadata,
    ):
        self._tree, self._logits, self._first_rows = tree, logits, first_rows
        self._positions, self._texts, self._outputs = positions, texts, outputs
        self._sampler, self._metadata = sampler, metadata
        self._drawn: list[SamplerOutput] = []
        self._surprises: list[tuple[list[float], list[float]]] = []

    def run(self) -> Verdict:
        """The verdict; the outputs are as they were before."""
        lengths = [len(output) for output in self._outputs]
        try:
            return follow(self._tree, self._sample)
        finally:
            for output, length in zip(self._outputs, lengths, strict=True):
                del output[length:]
            self._sampler.name_rows((), ())

    def _sample(self, depth: int, nodes: Array) -> Array:
        """[B] the target's tokens behind these nodes; only those of depth `depth` count."""
        rows = torch.from_numpy(self._first_rows + nodes)
        metadata = self._metadata
        walking = self._tree.depths[np.arange(len(nodes)), nodes] == depth
        if depth:
            for row in np.nonzero(walking)[0].tolist():
                self._outputs[row].append(int(self._tree.tokens[row, nodes[row]]))
            for processor in metadata.logitsprocs.all:
                processor.update_state(None)  # some count the tokens of the output
            # Requests whose thinking is limited draft nothing.
            metadata = replace(metadata, thinking_budget_state_holder=None)
        texts = [text if walks else None for text, walks in zip(self._texts, walking.tolist(), strict=True)]
        self._sampler.name_rows(texts, (self._positions + depth + 1).tolist())
        drawn = self._sampler(logits=self._logits[rows].clone(), sampling_metadata=metadata)
        self._drawn.append(drawn)
        self._surprises.append((self._sampler.log_probs, self._sampler.entropies))
        return drawn.sampled_token_ids[:, 0].long().numpy()

    def emitted(self, verdict: Verdict) -> list[Emitted]:
        """By row."""
        columns = [drawn.sampled_token_ids[:, 0].tolist() for drawn in self._drawn]
        counts = (verdict.accepted_lengths + 1).tolist()
        return [
            Emitted(
                [column[row] for column in columns[:count]],
                *([of_depth[which][row] for of_depth in self._surprises[:count]] for which in (0, 1)),
            )
            for row, count in enumerate(counts)
        ]

    def output(self, verdict: Verdict) -> SamplerOutput:
        """In the form of vLLM's own rejection sampler: [B, most tokens], -1 behind each row's last."""
        counts = torch.from_numpy(verdict.accepted_lengths + 1)
        drawn = self._drawn[: int(counts.max())]
        tokens = torch.cat([of_depth.sampled_token_ids for of_depth in drawn], dim=1)
        tokens[torch.arange(len(drawn)) >= counts[:, None]] = -1
        of_depths = [of_depth.logprobs_tensors for of_depth in drawn]
        logprobs = None
        if of_depths[0] is not None:
            parts: list[Any] = [part for part in of_depths if part is not None]
            tokens_of, of_tokens, ranks = (
                torch.stack([part[column] for part in parts], dim=1).flatten(0, 1) for column in range(3)
            )
            logprobs = LogprobsTensors(tokens_of, of_tokens, ranks)
        return SamplerOutput(sampled_token_ids=tokens, logprobs_tensors=logprobs)
