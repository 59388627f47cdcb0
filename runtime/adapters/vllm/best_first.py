"""A drafter model under vLLM that grows trees of any shape: `--speculative-config '{"method": "custom_class", ...}'`.

It is the product's own drafter, in the worker's process and with a cache of its own: whole frontiers per level, the
text's own n-grams, every policy as in the product's own loop.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from vllm.config import VllmConfig

from ....controller.contract import Scheme
from ....controller.errors import InputError
from ....controller.trees.limits import TreeLimits
from ...drafters.language_model import LanguageModelDrafter
from ...engines.transformers.loading import load_tokenizer
from ...engines.transformers.model import TransformersModel
from ...engines.transformers.support import num_rows
from ...pair_config import resolved
from .drafting import Growth
from .policy import read_vocabulary
from .settings import VllmSettings


class TreeProposer:
    """What vLLM makes of `"model": "treewright.runtime.adapters.vllm.best_first.TreeProposer"`."""

    def __init__(self, vllm_config: VllmConfig):
        settings = VllmSettings.parse(vllm_config.additional_config)
        worker = vllm_config.parallel_config.worker_cls
        if settings is None or settings.drafter is None:
            raise InputError('TreeProposer needs its model in --additional-config \'{"treewright": {"drafter": ...}}\'')
        if "treewright" not in str(worker):
            raise InputError(
                f"TreeProposer drafts trees, which worker {worker} cannot verify; start with --worker-cls "
                "treewright.runtime.adapters.vllm.worker.TreeWorker"
            )
        self._name = settings.drafter
        self._dtype = vllm_config.model_config.dtype
        self._vocabulary_size = vllm_config.model_config.get_vocab_size()
        self._model_config = vllm_config.model_config
        self._longest = vllm_config.model_config.max_model_len
        self._growth: Growth | None = None
        self._drafter: LanguageModelDrafter | None = None

    def load_model(self, target_model: nn.Module) -> None:
        """vLLM calls this behind the target's own loading."""
        folder = resolved(self._name, "drafter")
        self._model = TransformersModel.from_pretrained(folder, dtype=self._dtype, device="cpu")
        vocabulary = read_vocabulary(self._model_config)
        if vocabulary is not None and load_tokenizer(folder).get_vocab() != vocabulary:
            raise InputError(
                f"treewright.drafter {self._name!r} has another tokenizer than the target; a draft token must mean the "
                "same to both, so choose a drafter of the target's family"
            )
        if num_rows(self._model.model) < self._vocabulary_size:
            raise InputError(
                f"treewright.drafter {self._name!r} has rows for {num_rows(self._model.model)} tokens, and the target "
                f"generates {self._vocabulary_size} different ones; choose a drafter that knows all of them"
            )
        if self._model.context_length < self._longest:
            raise InputError(
                f"treewright.drafter {self._name!r} reads {self._model.context_length} tokens, and texts may have "
                f"{self._longest}; start with --max-model-len {self._model.context_length}"
            )
        self._model.vocabulary_size = self._vocabulary_size

    def drafter(self, scheme: Scheme, limits: TreeLimits) -> LanguageModelDrafter:
        """The drafter under a scheme."""
        self._drafter = LanguageModelDrafter(self._model, scheme, ngrams=limits.ngrams)
        return self._drafter

    def grow(self, growth: Growth | None, rows: Sequence[int] = ()) -> None:
        """Draft these trees next."""
        self._growth = growth

    def propose(self, *of_batch: Any, **options: Any) -> list[list[int]]:
        """Grow the trees; the runner takes them from there."""
        growth, drafter = self._growth, self._drafter
        if growth is None or drafter is None:
            return []
        while (frontier := growth.frontier()).shape[1]:
            before = int(growth.tree.num_nodes.sum())
            width = growth.shaping.policy.limits.width
            growth.tree = drafter.expand(growth.tree, np.asarray(frontier), width, growth.slots.sampler)
            if int(growth.tree.num_nodes.sum()) == before:  # nothing was found: it would be asked for again
                break
        return []
