"""An `assistant_model` for transformers' own assisted generation, whose chains are as long as a learned selector says.

The loop, and with it the distribution of the text, stays transformers'. Whether another token is drafted depends on the
distributions that tokens were drawn from, never on what was drawn last, and no drawn token is dropped. The loop wants
at least one token a step, and shows a drafter none of the target's rows, so histories are those of a text's start.
"""

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from ....controller.context import StepContext
from ....controller.errors import InputError
from ....controller.learned.history import START
from ....controller.policies.base import Step
from ....controller.policies.chains import chain_path
from ....controller.policies.selector import Selector
from ....controller.trees.tree import DraftTree
from ...memory import warn_unused
from ...sampling import TokenSampler
from ...schemes.ranked import propose
from .chain_reader import ChainReader
from .drafting import Drafting, TreePolicy
from .models import lent, wrapped
from .processors import warping

ROOT = np.zeros((1, 1), dtype=np.int64)


def assistant_with(
    drafter: PreTrainedModel,
    selector: str | os.PathLike[str],
    *,
    target: PreTrainedModel,
    theta_scale: float | None = None,
    tokenizer: Any = None,
) -> "ChainAssistant":
    """What `target.generate(..., assistant_model=...)` drafts with; arguments and errors as of `generate_with`."""
    policy = TreePolicy(Drafting(selector, theta_scale=theta_scale), tokenizer)
    if policy.checkpoint is not None:
        warn_unused(policy.checkpoint, "transformers' assisted generation")
    return ChainAssistant(drafter, policy.chains(target, drafter))


class Chain(NamedTuple):
    """What assisted generation reads of a drafter's output."""

    sequences: Tensor  # [1, L + n] int64
    scores: tuple[Tensor, ...]  # n of [1, V], by whose softmax each token was drawn
    past_key_values: None = None  # the cache is the assistant's own


class LastChain(NamedTuple):
    """What a chain was drafted behind, until the loop tells how it went on."""

    step: Step
    tree: DraftTree
    text: list[int]


class ChainAssistant:
    """The drafter in all but `generate`. Not for use from several threads at once."""

    def __init__(self, drafter: PreTrainedModel, selector: Selector):
        self._drafter = drafter
        self._selector = selector
        with lent([drafter]):
            self._model = wrapped(drafter, "the drafter")
        self._reader = ChainReader(self._model)
        self._last: LastChain | None = None
        self.generation_config: GenerationConfig = copy.deepcopy(drafter.generation_config)
        self.generation_config.num_assistant_tokens = selector.limits.max_depth
        self.generation_config.num_assistant_tokens_schedule = "constant"
        self.generation_config.assistant_confidence_threshold = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._drafter, name)

    def generate(
        self,
        input_ids: Tensor,
        *,
        max_new_tokens: int,
        generation_config: GenerationConfig,
        logits_processor: Sequence[Any] = (),
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Chain:
        """Draft behind `input_ids` [1, L] as assisted generation asks: at least one token, at most `max_new_tokens`."""
        if attention_mask is not None and not bool((attention_mask != 0).all()):
            raise InputError("the assistant drafts behind a text without padding; leave padding out of the prompt")
        text: list[int] = input_ids[0].tolist()
        self._hear_back(text)
        # Any row that a token was really drawn from is sound: what processors remember is no matter here.
        seed = 0 if generation_config.do_sample else None
        how = warping(logits_processor, input_ids, 0, seed=seed, stateless=logits_processor)
        sampler = TokenSampler([how.sampling], self._model.vocabulary_size, self._model.device)
        step, tree = self._selector.begin(_context(text, max_new_tokens, sampler)), DraftTree.from_roots(ROOT[0])
        tokens: list[int] = []
        scores: list[Tensor] = []
        with torch.inference_mode(), lent([self._drafter]):
            row = self._reader.read(text, max_new_tokens)[None]
            while True:
                if how.before is not None:
                    row = how.before.scores(input_ids.new_tensor([tokens]).to(row.device), row)
                scores.append(sampler.warp(row[None])[0])
                tokens.append(_draw(scores[-1], sampler))
                # A tree of the likeliest tokens: it says how a row looks, not what was drawn from it.
                tree = tree.extend(ROOT + len(tokens) - 1, propose(scores[-1][None], None, 1))
                if len(tokens) == max_new_tokens or not step.frontier(tree).shape[1]:
                    break
                row = self._reader.append(tokens[-1])[None]
        self._last = LastChain(step, tree, text)
        return Chain(torch.cat((input_ids, input_ids.new_tensor([tokens])), dim=1), tuple(scores))

    def _hear_back(self, text: list[int]) -> None:
        """Let the selector count what the last chain came to, if this is its text."""
        if self._last is None:
            return
        step, tree, before = self._last
        if len(text) > len(before) and text[: len(before)] == before:
            step.record(tree, [1] * tree.deepest, chain_path(np.array([len(text) - len(before) - 1])))


def _draw(scores: Tensor, sampler: TokenSampler) -> int:
    """A token of warped `scores` [1, V], by torch's generator, as `generate` draws."""
    if sampler.is_greedy:
        return int(scores.argmax())
    return int(torch.multinomial(scores.softmax(dim=-1), 1))


def _context(text: Sequence[int], max_new_tokens: int, sampler: TokenSampler) -> StepContext:
    return StepContext(
        positions=np.array([len(text) - 1]),
        remaining=np.array([max_new_tokens + 1]),
        temperatures=sampler.temperatures,
        top_ps=sampler.top_ps,
        history=START[None],
    )
