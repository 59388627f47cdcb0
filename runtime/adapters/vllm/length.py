"""The length of chains alone, under vLLM's own worker, attention and rejection sampler.

vLLM's drafters draft token by token; before each the policy says for which requests the chain goes on. Drafts that are
the drafter's best tokens are fixed given the text, so anything may decide about them. Drafts that are sampled are
tested by dividing by their probability: a decision about one may look at the row it is drawn from, never at the token
drawn, nor at rows behind it. A policy that prices whole chains therefore ends sampled ones early, but takes nothing
back.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer

from ....controller.context import StepContext
from ....controller.contract import FIXED
from ....controller.errors import InputError
from ....controller.learned.history import START
from ....controller.policies.chains import chain_limits, chain_path
from ....controller.policies.selector import Selector
from ....controller.trees.tree import DraftTree
from ...sampling import TokenSampler
from ...schemes.ranked import draft
from .checks import PROPOSERS, require_known
from .policy import Loaded, Shaping, shaping
from .proposers import EnoughError
from .repair import repair_sampling
from .settings import VllmSettings
from .texts import sampling_of

log = logging.getLogger(__name__)


class Chains:
    """The chains of a batch in one step, all rows of it."""

    def __init__(self, shaping: Shaping, context: StepContext, roots: Sequence[int], sampler: TokenSampler):
        self.probs: list[Tensor] = []  # by depth, [B, V] each, of sampled drafts
        self._policy, self._sampler, self._positions = shaping.policy, sampler, context.positions
        self._tokens: list[list[int]] = []  # by depth
        self._tree = DraftTree.from_roots(np.array(roots, dtype=np.int64))
        self._step = shaping.policy.begin(context)
        self._widths: list[int] = []
        self._lengths = np.zeros(len(roots), dtype=np.int64)
        self._frontier = self._step.frontier(self._tree)

    def add(self, logits: Tensor, tokens: Tensor, probs: Tensor | None) -> None:
        """The next token of every chain, from its row [V]; EnoughError where none goes on."""
        if not self._frontier.shape[1]:
            raise EnoughError
        # The tree holds the row's best token, whichever was drawn: all that may be known of a sampled one.
        scores = logits[:, None].float()
        children = draft(FIXED, scores, self._positions + self._tree.deepest + 1, 1, self._sampler)
        self._tree = self._tree.extend(self._frontier, children)
        self._tokens.append(tokens.tolist())
        if probs is not None:
            self.probs.append(probs)
        self._lengths += self._frontier[:, 0] >= 0
        self._widths.append(1)
        self._frontier = self._step.frontier(self._tree)
        if not self._frontier.shape[1]:
            raise EnoughError

    def drafts(self) -> list[list[int]]:
        """By row."""
        # Thresholds look at the rows up to the token's own; a price looks at the whole chain.
        takes_back = not self.probs or (isinstance(self._policy, Selector) and self._policy.objective is None)
        if self._tree.deepest and takes_back:
            nodes = self._step.keep(self._tree)
            self._lengths = (nodes >= 0).sum(axis=1) - 1
            self._tree = self._tree.subtree(nodes)
        columns = list(zip(*self._tokens, strict=True)) or [()] * len(self._lengths)
        return [list(column[:length]) for column, length in zip(columns, self._lengths.tolist(), strict=True)]

    def settle(self, num_rejected: Sequence[int]) -> None:
        """Tell the policy how many of each row's drafts vLLM refused."""
        self._step.record(self._tree, self._widths, chain_path(self._lengths - np.array(num_rejected)))


class LengthControl:
    """A mix-in over vLLM's proposers; without settings of ours it changes nothing."""

    model: Any
    _last_draft_probs: Tensor | None

    def __init__(self, vllm_config: VllmConfig, device: torch.device, runner: Any = None):
        inherited: Any = super()
        inherited.__init__(vllm_config, device, runner)
        self.settings = VllmSettings.parse(vllm_config.additional_config)
        self._config, self._runner = vllm_config, runner
        self._shaping: Shaping | None = None
        self._chains: Chains | None = None
        self._before: tuple[list[str], Chains] | None = None
        if self.settings is not None:
            require_known(PROPOSERS)
            _require_supported(vllm_config, self.settings)
            if self.settings.repair_sampling:
                repair_sampling()
            elif device.type == "cpu":
                log.warning(
                    "with drafts this vLLM samples from a wrong distribution above temperature 0 on the CPU "
                    "(vllm-project/vllm#55005); set treewright.repair_sampling, or use trees"
                )

    def load_model(self, target_model: torch.nn.Module) -> None:
        inherited: Any = super()
        inherited.load_model(target_model)
        if self.settings is not None:
            self._loaded = Loaded.read(self.settings, self._config.model_config)
            self.change(self.settings)

    def change(self, settings: VllmSettings) -> None:
        """Decide by other thresholds from the next step on."""
        assert self._config.speculative_config is not None
        length = self._config.speculative_config.num_speculative_tokens
        self.settings, self._before = settings, None
        self._shaping = shaping(settings, self._loaded, chain_limits(length))

    def propose(self, num_speculative_tokens: int, *args: Any, **options: Any) -> Any:
        inherited: Any = super()
        if self._shaping is None:
            return inherited.propose(num_speculative_tokens, *args, **options)
        assert not args, "vLLM calls it by names"
        ids, rejected = list(self._runner.input_batch.req_ids), options["num_rejected_tokens_gpu"]
        if self._before is not None and rejected is not None and self._before[0] == ids:
            self._before[1].settle(rejected.tolist())
        self._chains = chains = self._open(options)
        depth = min(num_speculative_tokens, self._shaping.policy.limits.max_depth)
        with suppress(EnoughError):
            inherited.propose(num_speculative_tokens=depth, **options)
        self._chains = None
        self._last_draft_probs = torch.stack(chains.probs, dim=1).contiguous() if chains.probs else None
        self._before = (ids, chains)
        return chains.drafts()

    def _open(self, options: dict[str, Any]) -> Chains:
        assert self._shaping is not None
        at, places = options["token_indices_to_sample"], options["target_positions"]
        if at is None:
            at = options["common_attn_metadata"].query_start_loc[1:] - 1
        positions = places[at].numpy() + 1  # of the tokens just sampled
        states = [self._runner.requests[request_id] for request_id in self._runner.input_batch.req_ids]
        samplings = [sampling_of(state.sampling_params, 0) for state in states]
        sampler = TokenSampler(samplings, self._config.model_config.get_vocab_size(), torch.device("cpu"))
        ends = [state.num_prompt_tokens + (state.sampling_params.max_tokens or 2**31) for state in states]
        context = StepContext(
            positions=positions,
            remaining=np.maximum(1, np.array(ends) - positions - 1),
            temperatures=sampler.temperatures,
            top_ps=sampler.top_ps,
            history=np.tile(START, (len(states), 1)),  # vLLM's sampler does not show the target's rows
        )
        return Chains(self._shaping, context, options["next_token_ids"].tolist(), sampler)

    def _sample_draft_tokens(
        self, hidden_states: Tensor, sampling_metadata: SamplingMetadata
    ) -> tuple[Tensor, Tensor | None]:
        inherited: Any = super()
        if self._chains is None:
            return inherited._sample_draft_tokens(hidden_states, sampling_metadata)
        logits = self.model.compute_logits(hidden_states)
        tokens, probs = inherited._sample_from_logits(logits.clone(), sampling_metadata)
        self._chains.add(logits, tokens, probs)
        return tokens, probs


class LengthDraftModelProposer(LengthControl, DraftModelProposer):
    """A draft model."""


class LengthEagleProposer(LengthControl, EagleProposer):
    """An EAGLE-1 or EAGLE-3 head."""


def _require_supported(config: VllmConfig, settings: VllmSettings) -> None:
    speculative = config.speculative_config
    assert speculative is not None
    options = {
        "--async-scheduling": bool(config.scheduler_config.async_scheduling),
        "VLLM_USE_V2_MODEL_RUNNER": config.use_v2_model_runner,
        "parallel_drafting": speculative.parallel_drafting,
        "use_local_argmax_reduction": speculative.use_local_argmax_reduction,
        "use_heterogeneous_vocab": speculative.use_heterogeneous_vocab,
        "num_speculative_tokens_per_batch_size": speculative.num_speculative_tokens_per_batch_size is not None,
        "treewright.tree": settings.tree is not None,
        "treewright.scheme": settings.scheme is not None,
        "treewright.drafter": settings.drafter is not None,
        "treewright.record": settings.record is not None,
    }
    for option, is_given in options.items():
        if is_given:
            raise InputError(
                f"{option} does not go together with treewright's lengths of chains; leave it out, or use trees, "
                "--worker-cls treewright.runtime.adapters.vllm.worker.TreeWorker"
            )
