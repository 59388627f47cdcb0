"""The requests that are drafted for, each in a slot; sampler, drafter and n-grams number them alike."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ....controller.context import StepContext
from ....controller.learned.recalibration import Calibration
from ....controller.trees.limits import TreeLimits
from ....controller.trees.tree import Array, DraftTree
from ...drafters.language_model import LanguageModelDrafter
from ...drafters.ngrams.model import NgramModel
from ...engines.base import CHUNK
from ...sampling import TokenSampler
from .texts import Text


class Outcome(NamedTuple):
    """What a step made of the tree of one request."""

    path: list[int]  # accepted nodes of the tree as it was drafted, the root left out
    tokens: list[int]  # emitted: those of the path and the next one


class DraftSlots:
    """`drafter` is a model that reads the texts by itself; vLLM's own proposers keep their rows in vLLM's cache. A text
    ends at `longest` tokens at the latest."""

    def __init__(
        self, vocabulary_size: int, limits: TreeLimits, longest: int, drafter: LanguageModelDrafter | None = None
    ):
        self.ids: list[str] = []
        self.sampler = TokenSampler([], vocabulary_size, torch.device("cpu"))
        self.calibration = Calibration()
        self.ngrams: list[NgramModel] = []
        self._limits, self._longest = limits, longest
        self._drafter = drafter
        self._counts_ngrams = limits.ngrams and drafter is None
        if drafter is not None:
            drafter.open()

    def commit(self, tree: DraftTree, outcomes: Mapping[str, Outcome]) -> None:
        """The texts continue as the verified `tree` of all slots did; those without an outcome leave."""
        paths = np.full((len(self.ids), max([1, *(len(outcome.path) for outcome in outcomes.values())])), -1)
        next_tokens = np.zeros(len(self.ids), dtype=np.int64)
        for slot, request_id in enumerate(self.ids):
            if (outcome := outcomes.get(request_id)) is not None:
                paths[slot, : len(outcome.path)] = outcome.path
                next_tokens[slot] = outcome.tokens[-1]
                if self._counts_ngrams:
                    self.ngrams[slot].extend(outcome.tokens)
        if self._drafter is not None:
            self._drafter.commit(tree, paths[:, : tree.deepest], next_tokens)
        self.keep([request_id in outcomes for request_id in self.ids])

    def update(self, wanted: Mapping[str, Text]) -> None:
        """Let requests leave and join, until the slots are those of `wanted`, in an order of their own."""
        self.keep([request_id in wanted for request_id in self.ids])
        for request_id, text in wanted.items():  # in their order, which is that of every worker of a model
            if request_id not in self.ids:
                self._join(request_id, text)

    def keep(self, stays: Sequence[bool]) -> None:
        """Remove the slots that do not stay; the last ones that stay move into the gaps."""
        if all(stays):
            return
        count = sum(stays)
        movable = [slot for slot in range(count, len(stays)) if stays[slot]]
        slots = [slot if stays[slot] else movable.pop() for slot in range(count)]
        self.ids = [self.ids[slot] for slot in slots]
        self.sampler.keep(slots)
        self.calibration.keep(slots)
        if self._counts_ngrams:
            self.ngrams = [self.ngrams[slot] for slot in slots]
        if self._drafter is not None:
            self._drafter.keep(slots)

    def _join(self, request_id: str, text: Text) -> None:
        tokens = [*text.prompt, *text.emitted]
        self.ids.append(request_id)
        self.sampler.join(text.sampling, noise=text.noise)
        self.calibration.join()
        if self._counts_ngrams:
            self.ngrams.append(NgramModel(tokens))
        if self._drafter is not None:
            rows = CHUNK + 1 + self._limits.frontier * self._limits.max_depth
            length = min(len(text.prompt) + text.max_tokens, self._longest)
            self._drafter.join(np.asarray(tokens, dtype=np.int64), length + rows)

    def context(self, texts: Mapping[str, Text]) -> StepContext:
        """Of the next step."""
        of_slots = [texts[request_id] for request_id in self.ids]
        positions = np.array([text.root_position for text in of_slots])
        remaining = np.array([text.max_tokens - len(text.emitted) for text in of_slots])
        return StepContext(
            positions=positions,
            remaining=np.maximum(1, np.minimum(remaining, self._longest - 1 - positions)),
            temperatures=self.sampler.temperatures,
            top_ps=self.sampler.top_ps,
            history=np.array([text.history for text in of_slots], dtype=np.float32),
            calibration=self.calibration,
        )

    def roots(self, texts: Mapping[str, Text]) -> Array:
        """[S] the last token of each text."""
        return np.array([(texts[each].emitted or texts[each].prompt)[-1] for each in self.ids], dtype=np.int64)
