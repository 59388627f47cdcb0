"""vLLM's model runner with trees in place of chains.

A step of vLLM reads the scheduled drafts, runs the target, samples, and asks a drafter for the next drafts. Here the
drafted rows get the positions of their depth and a mask of their ancestors, the sampler walks down the tree, the
accepted rows move next to each other in the cache, and the drafter grows trees. Whatever is not a tree of ours (drafts
of another drafter, vLLM's own placeholders) is a chain.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import SamplerOutput
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from ....controller.errors import InputError
from ....controller.trees.limits import LARGEST
from .attention import attending
from .best_first import TreeProposer
from .checks import unsupported_layer
from .counters import Counters
from .forest import ancestors_of, batch_tree, chain_of, depths_of
from .planner import Planner
from .policy import Loaded
from .proposers import TreeChain
from .rows import TreeBatch, move_cached, moved, straight_order
from .sampler import KeyedSampler
from .settings import VllmSettings
from .slots import Outcome
from .texts import Text, text_of
from .verification import Emitted, Walk


class TreeRunner(CPUModelRunner):
    drafter: Any  # of one of many kinds, where there is one

    def __init__(self, vllm_config: VllmConfig, device: torch.device):
        super().__init__(vllm_config, device)
        self.settings = VllmSettings.parse(vllm_config.additional_config) or VllmSettings()
        config = self.model_config
        self.sampler = KeyedSampler(config.logprobs_mode, config.use_fp64_gumbel)
        self.texts: dict[str, Text] = {}
        self.counters = Counters()
        self.observer: Callable[[Text], None] | None = None  # told of every text that has ended
        self.planner: Planner | None = None  # None without drafts, and where vLLM drafts without a model
        self._target_layers: list[Any] = []
        self._batch: TreeBatch | None = None  # of the step at hand
        self._paths: list[list[int]] = []  # by row, the nodes that it accepted

    def load_model(self, load_dummy_weights: bool = False) -> None:
        super().load_model(load_dummy_weights)
        proposer = getattr(self, "drafter", None)
        if not isinstance(proposer, TreeChain | TreeProposer):
            return
        # One chain, however wide: vLLM's own drafters read one token of a request per forward.
        frontier = 1 if isinstance(proposer, TreeChain) else LARGEST.frontier
        self.planner = Planner(
            self.settings,
            Loaded.read(self.settings, self.model_config),
            replace(LARGEST, frontier=frontier, budget=self.num_spec_tokens),
            proposer,
            self.counters,
            vocabulary_size=self._vocabulary_size,
            longest=self.max_model_len,
        )

    def initialize_kv_cache(self, kv_cache_config: KVCacheConfig, *of_cache: Any, **options: Any) -> None:
        super().initialize_kv_cache(kv_cache_config, *of_cache, **options)
        groups = self.kv_cache_config.kv_cache_groups
        if len(groups) != 1:
            raise InputError(
                f"the cache has {len(groups)} groups of layers, and trees are moved in one; use another model"
            )
        drafting = getattr(getattr(self, "drafter", None), "_draft_attn_layer_names", ())
        layers: dict[str, Any] = self.compilation_config.static_forward_context
        self._target_layers = [layers[name] for name in groups[0].layer_names if name not in drafting]
        for layer in self._target_layers:
            if (reason := unsupported_layer(layer)) is not None:
                raise InputError(reason)

    def change(self, settings: VllmSettings) -> None:
        """Draft by other thresholds from the next step on."""
        self.settings = settings
        if self.planner is not None:
            self.planner.change(settings)

    @property
    def _vocabulary_size(self) -> int:
        return self.model_config.get_vocab_size()

    def _on_request_state_removed(self, req_id: str, req_state: Any) -> None:
        super()._on_request_state_removed(req_id, req_state)
        text = self.texts.pop(req_id, None)
        if text is not None and self.observer is not None and not text.has_ended:
            self.observer(text)  # ended by a stop string, or by the client

    def _prepare_inputs(
        self, scheduler_output: SchedulerOutput, num_scheduled_tokens: np.ndarray
    ) -> tuple[Tensor, SpecDecodeMetadata | None, int]:
        prepared = super()._prepare_inputs(scheduler_output, num_scheduled_tokens)
        # Only now: the slots in the cache follow from positions in a row.
        ends = self.query_start_loc.np[1 : self.input_batch.num_reqs + 1]
        branches, starts, masks = [], [], {}
        for row, (request_id, end) in enumerate(zip(self.input_batch.req_ids, ends.tolist(), strict=True)):
            tokens = scheduler_output.scheduled_spec_decode_tokens.get(request_id) or []
            start, of_row = end - 1 - len(tokens), None
            if tokens:
                of_row = chain_of(tokens) if self.planner is None else self.planner.branches(request_id, tokens)
                self.positions[start:end] = self.positions[start] + torch.tensor(depths_of(of_row.parents))
                if of_row.is_branched:
                    masks[row] = ancestors_of(of_row.parents)
            branches.append(of_row)
            starts.append(start)
        roots = np.array(starts)
        self._batch = TreeBatch(branches, roots, self.positions[roots].numpy(), masks)
        return prepared

    def _model_forward(self, *of_model: Any, **options: Any) -> Any:
        with attending(self._batch.masks if self._batch is not None else {}):
            return super()._model_forward(*of_model, **options)

    def _sample(self, logits: Tensor | None, spec_decode_metadata: SpecDecodeMetadata | None) -> SamplerOutput:
        batch = self._batch
        assert logits is not None and batch is not None
        # Nothing is drawn from them, and vLLM rewinds those of half-read prompts, which fails on a CPU.
        self.input_batch.generators.clear()
        tree = batch_tree(self.input_ids.np[batch.starts].astype(np.int64), batch.branches)
        states = [self.requests[request_id] for request_id in self.input_batch.req_ids]
        places = batch.positions.tolist()
        texts = [self._text(row, *of_row) for row, of_row in enumerate(zip(states, places, strict=True))]
        firsts = np.cumsum(tree.num_nodes) - tree.num_nodes
        outputs = [state.output_token_ids for state in states]
        metadata = self.input_batch.sampling_metadata
        walk = Walk(tree, logits, firsts, batch.positions, texts, outputs, self.sampler, metadata)
        verdict = walk.run()
        self._paths = [[node for node in path if node >= 0] for path in verdict.path.tolist()]
        sources, targets = moved(batch, self._paths)
        if sources:
            slots = self.input_batch.block_table[0].slot_mapping.gpu
            move_cached(self._target_layers, slots, sources, targets)
        self._settle(batch, walk.emitted(verdict), texts)
        return walk.output(verdict)

    def _text(self, row: int, state: Any, position: int) -> Text:
        """The request in a row, whose root is at `position`; begun anew where vLLM took tokens back or gave more."""
        text = self.texts.get(state.req_id)
        if text is None or (text.root_position != position and not self._is_discarded(row)):
            text = text_of(state, self.model_config.seed, self._vocabulary_size)
            self.texts[state.req_id] = text
            if self.planner is not None:
                self.planner.forget(state.req_id)
        return text

    def _is_discarded(self, row: int) -> bool:
        """Whether the row is of a prompt that is still being read, so that what is sampled counts for nothing."""
        return bool(self.discard_request_mask.np[row])

    def _settle(self, batch: TreeBatch, emitted: list[Emitted], texts: list[Text]) -> None:
        """Keep what the step emitted, and tell policy and drafter."""
        verified = {}
        for row, (request_id, of_row, text) in enumerate(zip(self.input_batch.req_ids, emitted, texts, strict=True)):
            if self._is_discarded(row):
                continue
            text.emit(*of_row)
            if self.observer is not None and text.has_ended:
                self.observer(text)
            branches = batch.branches[row]
            num_nodes = 0 if branches is None else len(branches.tokens)
            self.counters.add(steps=1, nodes=num_nodes, tokens=len(of_row.tokens))
            verified[request_id] = branches, Outcome(self._paths[row], of_row.tokens)
        if self.planner is not None:
            self.planner.settle(verified)

    def propose_draft_token_ids(
        self,
        scheduler_output: SchedulerOutput,
        sampled_token_ids: Tensor | list[list[int]],
        sampling_metadata: Any,
        hidden_states: Tensor,
        sample_hidden_states: Tensor,
        aux_hidden_states: list[Tensor] | None,
        spec_decode_metadata: SpecDecodeMetadata | None,
        common_attn_metadata: Any,
        slot_mappings: Any,
    ) -> list[list[int]] | Tensor:
        growth, index = None, self.input_batch.req_id_to_index
        if self.planner is not None:
            ids = [each for row, each in enumerate(self.input_batch.req_ids) if not self._is_discarded(row)]
            growth = self.planner.open({request_id: self.texts[request_id] for request_id in ids})
            self.drafter.grow(growth, [] if growth is None else [index[request_id] for request_id in growth.slots.ids])
        if isinstance(self.drafter, TreeChain):
            hidden_states, aux_hidden_states = self._straightened(hidden_states, aux_hidden_states)
        drafts = super().propose_draft_token_ids(
            scheduler_output, sampled_token_ids, sampling_metadata, hidden_states, sample_hidden_states,
            aux_hidden_states, spec_decode_metadata, common_attn_metadata, slot_mappings,
        )  # fmt: skip
        if self.planner is None:
            return drafts
        drafts = [[] for _ in self.input_batch.req_ids]
        for request_id, tokens in ({} if growth is None else self.planner.close(growth, self.texts)).items():
            drafts[index[request_id]] = tokens
        return drafts

    def _straightened(self, hidden: Tensor, aux: list[Tensor] | None) -> tuple[Tensor, list[Tensor] | None]:
        """The rows of the last forward as a chain would have left them: vLLM's proposers read tokens, positions and
        hidden states from there."""
        assert self._batch is not None
        order = straight_order(self._batch, self._paths, len(hidden))
        for branches, start in zip(self._batch.branches, self._batch.starts.tolist(), strict=True):
            if branches is not None:
                count = len(branches.tokens) + 1
                self.positions[start : start + count] = self.positions[start] + torch.arange(count)
        ids = self.input_ids.gpu
        ids[: len(order)] = ids[order]
        return hidden[order], None if aux is None else [states[order] for states in aux]
