"""vLLM's model runner with trees in place of chains.

A step of vLLM reads the scheduled drafts, runs the target, samples, and asks a drafter for the next drafts. Here the
drafted rows get the positions of their depth and a mask of their ancestors, the sampler walks down the tree, the
accepted rows move next to each other in the cache, and the drafter grows trees. Whatever is not a tree of ours (drafts
of another drafter, vLLM's own placeholders) is a chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed.parallel_state import get_tp_group
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import SamplerOutput
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from ....controller.errors import InputError
from ....controller.trees.limits import LARGEST
from ....controller.trees.tree import Array, DraftTree
from .attention import attending, order_of
from .best_first import TreeProposer
from .checks import unsupported_layer
from .counters import Counters
from .drafting import Drafted, Growth, settle
from .forest import Branches, ancestors_of, batch_tree, chain_of, depths_of
from .policy import Loaded, Shaping, shaping
from .proposers import TreeChain
from .sampler import KeyedSampler
from .settings import VllmSettings
from .slots import DraftSlots, Outcome
from .texts import Drafting, Text, text_of
from .verification import Emitted, Walk


class Scheduled(NamedTuple):
    """What a step verifies, by row of the batch."""

    branches: list[Branches | None]
    starts: Array  # [B] the row of each root among all rows of the forward
    positions: Array  # [B] the root's index in its text
    masks: dict[int, Tensor]


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
        self.shaping: Shaping | None = None
        self._loaded = Loaded(None, None)
        self._target_layers: list[Any] = []
        self._slots: DraftSlots | None = None
        self._drafted: Drafted | None = None
        self._scheduled: Scheduled | None = None
        self._paths: list[list[int]] = []  # by row, the accepted nodes of the last step

    def load_model(self, load_dummy_weights: bool = False) -> None:
        super().load_model(load_dummy_weights)
        if not isinstance(getattr(self, "drafter", None), TreeChain | TreeProposer):
            return  # no drafts, or chains that vLLM drafts without a model
        self._loaded = Loaded.read(self.settings, self.model_config)
        self.shaping = self._new_shaping(self.settings)
        limits = self.shaping.policy.limits
        model = self.drafter.drafter(self.shaping.scheme, limits) if isinstance(self.drafter, TreeProposer) else None
        self._slots = DraftSlots(self._vocabulary_size, limits, model)

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
        self.shaping = None if self.shaping is None else self._new_shaping(settings)

    def _new_shaping(self, settings: VllmSettings) -> Shaping:
        # One chain, however wide: vLLM's own drafters read one token of a request per forward.
        frontier = 1 if isinstance(self.drafter, TreeChain) else LARGEST.frontier
        return shaping(settings, self._loaded, replace(LARGEST, frontier=frontier, budget=self.num_spec_tokens))

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
            of_row = self._branches(request_id, tokens)
            start = end - 1 - len(tokens)
            if of_row is not None:
                depths = torch.tensor(depths_of(of_row.parents), dtype=torch.int64)
                self.positions[start:end] = self.positions[start] + depths
                if of_row.is_branched:
                    masks[row] = ancestors_of(of_row.parents)
            branches.append(of_row)
            starts.append(start)
        roots = np.array(starts)
        self._scheduled = Scheduled(branches, roots, self.positions[roots].numpy(), masks)
        return prepared

    def _branches(self, request_id: str, tokens: Sequence[int]) -> Branches | None:
        """The tree that the scheduled drafts of a request are."""
        if not tokens:
            return None
        drafted = self._drafted.branches.get(request_id) if self._drafted is not None else None
        known = drafted.scheduled(tokens) if drafted is not None else None
        if known is None:
            self.counters.add(foreign=1)
        return known or chain_of(tokens)

    def _model_forward(self, *of_model: Any, **options: Any) -> Any:
        with attending(self._scheduled.masks if self._scheduled is not None else {}):
            return super()._model_forward(*of_model, **options)

    def _sample(self, logits: Tensor | None, spec_decode_metadata: SpecDecodeMetadata | None) -> SamplerOutput:
        scheduled = self._scheduled
        assert logits is not None and scheduled is not None
        tree = batch_tree(self.input_ids.np[scheduled.starts].astype(np.int64), scheduled.branches)
        states = [self.requests[request_id] for request_id in self.input_batch.req_ids]
        places = scheduled.positions.tolist()
        texts = [self._text(row, *of_row) for row, of_row in enumerate(zip(states, places, strict=True))]
        firsts = np.cumsum(tree.num_nodes) - tree.num_nodes
        outputs = [state.output_token_ids for state in states]
        metadata = self.input_batch.sampling_metadata
        walk = Walk(tree, logits, firsts, scheduled.positions, texts, outputs, self.sampler, metadata)
        verdict = walk.run()
        self._paths = [[node for node in path if node >= 0] for path in verdict.path.tolist()]
        self._move_accepted(scheduled)
        self._settle(tree, walk.emitted(verdict), texts)
        return walk.output(verdict)

    def _text(self, row: int, state: Any, position: int) -> Text:
        """The request in a row, whose root is at `position`; begun anew where vLLM took tokens back or gave more."""
        text = self.texts.get(state.req_id)
        if text is None or (text.root_position != position and not self.discard_request_mask.np[row]):
            text = text_of(state, self.model_config.seed, self._vocabulary_size)
            self.texts[state.req_id] = text
        return text

    def _move_accepted(self, scheduled: Scheduled) -> None:
        """Copy keys and values of each accepted path to the slots behind its root, in the target's layers."""
        sources, targets = [], []
        for start, path in zip(scheduled.starts.tolist(), self._paths, strict=True):
            for depth, node in enumerate(path, start=1):
                if node != depth:
                    sources.append(start + node)
                    targets.append(start + depth)
        if not sources:
            return
        slots = self.input_batch.block_table[0].slot_mapping.gpu
        from_slots, to_slots = slots[sources].long(), slots[targets].long()
        for layer in self._target_layers:
            order_of(layer, layer.kv_cache).move(layer.kv_cache, from_slots, to_slots)

    def _settle(self, tree: DraftTree, emitted: list[Emitted], texts: list[Text]) -> None:
        """Keep what the step emitted, and tell policy and drafter."""
        drafted, self._drafted = self._drafted, None
        discarded = self.discard_request_mask.np[: len(texts)]
        outcomes: dict[str, Outcome] = {}
        for row, (request_id, of_row, text) in enumerate(zip(self.input_batch.req_ids, emitted, texts, strict=True)):
            if discarded[row]:
                continue
            text.emit(*of_row)
            if self.observer is not None and text.has_ended:
                self.observer(text)
            num_nodes = int(tree.num_nodes[row]) - 1
            self.counters.add(steps=1, nodes=num_nodes, tokens=len(of_row.tokens))
            if drafted is not None and request_id in drafted.branches:
                slot = drafted.ids.index(request_id)
                path = [int(drafted.nodes[slot, node]) for node in self._paths[row]]
                if drafted.branches[request_id].tokens[:num_nodes] == tree.tokens[row, 1 : num_nodes + 1].tolist():
                    outcomes[request_id] = Outcome(path, of_row.tokens)
        if drafted is not None and self._slots is not None:
            settle(drafted, outcomes)
            self._slots.commit(drafted.tree, outcomes)

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
        index = self.input_batch.req_id_to_index
        growth = self._open_growth()
        rows = [] if growth is None else [index[request_id] for request_id in growth.slots.ids]
        if isinstance(self.drafter, TreeChain):
            hidden_states, aux_hidden_states = self._straightened(hidden_states, aux_hidden_states)
        elif not isinstance(self.drafter, TreeProposer):
            rows = None
        if rows is not None:
            self.drafter.grow(growth, rows)
        drafts = super().propose_draft_token_ids(
            scheduler_output, sampled_token_ids, sampling_metadata, hidden_states, sample_hidden_states,
            aux_hidden_states, spec_decode_metadata, common_attn_metadata, slot_mappings,
        )  # fmt: skip
        if rows is None:
            return drafts
        drafts = [[] for _ in self.input_batch.req_ids]
        if growth is not None:
            self._drafted = growth.close(self.texts)
            _require_agreement(self._drafted.branches)
            chains = sum(self.texts[each].drafting is Drafting.CHAIN for each in self._drafted.ids)
            undrafted = sum(text.drafting is Drafting.NOTHING for text in map(self.texts.get, index) if text)
            self.counters.add(levels=len(growth.widths), chains=chains, undrafted=undrafted)
            for request_id, of_text in self._drafted.branches.items():
                drafts[index[request_id]] = of_text.tokens
        return drafts

    def _open_growth(self) -> Growth | None:
        """The trees of the requests that are drafted for, as lone roots; None where there are none."""
        if self.shaping is None or self._slots is None:
            return None
        discarded = self.discard_request_mask.np[: self.input_batch.num_reqs]
        wanted = {
            request_id: self.texts[request_id]
            for row, request_id in enumerate(self.input_batch.req_ids)
            if not discarded[row] and self.texts[request_id].drafting is not Drafting.NOTHING
        }
        self._slots.update(wanted)
        if not wanted:
            return None
        context = self._slots.context(self.texts, self.max_model_len)
        return Growth(self.shaping, self._slots, context, self._slots.roots(self.texts))

    def _straightened(self, hidden: Tensor, aux: list[Tensor] | None) -> tuple[Tensor, list[Tensor] | None]:
        """The rows of the last forward as a chain would have left them: the accepted path behind its root, then what
        was rejected, at positions in a row. vLLM's proposers read tokens and hidden states from there."""
        scheduled = self._scheduled
        assert scheduled is not None
        order = torch.arange(len(hidden))
        for of_row, start, path in zip(scheduled.branches, scheduled.starts.tolist(), self._paths, strict=True):
            if of_row is None:
                continue
            count = len(of_row.tokens)
            rejected = sorted({*range(1, count + 1)} - {*path})
            order[start + 1 : start + count + 1] = start + torch.tensor([*path, *rejected])
            self.positions[start : start + count + 1] = self.positions[start] + torch.arange(count + 1)
        ids = self.input_ids.gpu
        ids[: len(order)] = ids[order]
        return hidden[order], None if aux is None else [states[order] for states in aux]


def _require_agreement(branches: dict[str, Branches]) -> None:
    """RuntimeError where the workers of one model drafted different trees: each would verify its own."""
    group = get_tp_group()
    if group.world_size > 1 and group.broadcast_object(branches) != branches:
        raise RuntimeError("two workers of one model drafted different trees; please report this")
