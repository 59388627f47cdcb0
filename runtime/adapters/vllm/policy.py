"""From the settings to a shape policy of the controller, and the drafting scheme that it needs."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ....controller.checkpoint import Checkpoint
from ....controller.contract import COUPLED, RANKED_SCHEMES, Scheme
from ....controller.errors import InputError
from ....controller.policies.base import ShapePolicy
from ....controller.policies.eagle2 import eagle2
from ....controller.policies.guard import Guard
from ....controller.policies.learned import learned_selector, tuned_scales
from ....controller.policies.selector import Selector
from ....controller.policies.sequoia import static_selector
from ....controller.pricing.latency import LatencyTable
from ....controller.trees.limits import SIZES, TreeLimits
from ....controller.trees.shapes import parse_paths
from ...engines.transformers.loading import load_tokenizer
from ...memory import warn_unused
from ...selectors import read_selector
from ...text.tokenizer import vocabulary_sha256
from .settings import VllmSettings

ENGINE = "vllm"  # as latency tables name it

log = logging.getLogger(__name__)


class Shaping(NamedTuple):
    """How trees are drafted, and by what they are shaped."""

    scheme: Scheme
    policy: ShapePolicy


class Loaded(NamedTuple):
    """What the settings name, read once; thresholds may change later."""

    checkpoint: Checkpoint | None
    table: LatencyTable | None

    @classmethod
    def read(cls, settings: VllmSettings, model_config: Any) -> "Loaded":
        """InputError where a file is missing, or the selector was trained for another tokenizer than the model's."""
        table = read_table(settings)
        if settings.selector is None:
            return cls(None, table)
        vocabulary = read_vocabulary(model_config)
        if vocabulary is None:
            raise InputError("treewright.selector is for one tokenizer, and skip_tokenizer_init hides which this is")
        checkpoint = read_selector(settings.selector, tokenizer_sha256=vocabulary_sha256(vocabulary))
        warn_unused(checkpoint, "vLLM")
        return cls(checkpoint, table)


def read_table(settings: VllmSettings) -> LatencyTable | None:
    """The latency table that the settings name; a warning where it was measured under another engine."""
    if settings.latency is None:
        return None
    table = LatencyTable.load(Path(settings.latency))
    if (engine := table.key.get("engine")) != ENGINE:
        log.warning(
            "treewright.latency: %s was measured under the engine %r, whose steps take other times than vLLM's; "
            "`treewright profile --engine vllm` measures this one",
            settings.latency,
            engine,
        )
    return table


def read_vocabulary(model_config: Any) -> dict[str, int] | None:
    """Of the tokenizer of a `ModelConfig`; None where vLLM was told to load none."""
    if model_config.skip_tokenizer_init:
        return None
    return load_tokenizer(str(model_config.tokenizer)).get_vocab()


def shaping(settings: VllmSettings, loaded: Loaded, most: TreeLimits) -> Shaping:
    """Trees within `most`, what the drafter at hand can draft. InputError where a static tree has more nodes."""
    selector, scheme = _selector(settings, loaded, most.budget)
    asked = selector.limits
    limits = TreeLimits(
        **{name: min(getattr(asked, name), getattr(most, name)) for name in SIZES}, ngrams=asked.ngrams and most.ngrams
    )
    policy = replace(selector, limits=limits)
    return Shaping(scheme, Guard(policy, loaded.table) if settings.guard else policy)


def _selector(settings: VllmSettings, loaded: Loaded, budget: int) -> tuple[Selector, Scheme]:
    if loaded.checkpoint is not None:
        checkpoint = loaded.checkpoint
        assert loaded.table is not None
        scale = tuned_scales(checkpoint) if settings.theta_scale is None else settings.theta_scale
        return learned_selector(checkpoint, loaded.table, theta_scale=scale), RANKED_SCHEMES[checkpoint.config.scheme]
    min_prob, path_prob = settings.min_prob, settings.path_prob
    scheme = RANKED_SCHEMES[settings.scheme or COUPLED.name]
    if settings.tree is None:
        limits = TreeLimits.dynamic(settings.depth, settings.width, budget)
        return eagle2(limits, min_prob=min_prob, path_prob=path_prob), scheme
    paths = parse_paths(settings.tree)
    if len(paths) > budget:
        raise InputError(
            f"treewright.tree has {len(paths)} nodes, but num_speculative_tokens, their budget, is {budget}; raise it"
        )
    return static_selector(paths, min_prob=min_prob, path_prob=path_prob), scheme
