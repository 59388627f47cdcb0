"""The ways to decode that are compared: vLLM alone, its own speculation, lengths of its chains, and trees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ....controller.checkpoint import Checkpoint
from ....controller.policies.sequoia import cheapest_tree
from ....controller.pricing.latency import LatencyTable
from ....controller.pricing.objective import nearest
from ....runtime.adapters.vllm.launch import WORKER, VllmConfig, engine_options, tree_options
from ....runtime.adapters.vllm.settings import VllmSettings
from ....runtime.pair_config import resolved

CHAINS = (1, 2, 3, 4, 6)
# Drafts of vLLM's own schedule by batch size, from a batch size to another.
SCHEDULE = ((1, 2, 4), (3, 4, 2), (5, 1024, 1))
# Of a pair of models and a device where a verified row costs little; what is counted then is what trees are for.
DEVICE_PRICES = Path(__file__).resolve().parents[3] / "configs" / "latency" / "h200-reference-8b.json"
MIN_PROB, PATH_PROB = 0.1, 0.05


@dataclass(frozen=True)
class Way:
    """One way to decode; those of a `tuned` name are tried first, and the fastest of them is measured."""

    name: str
    options: dict[str, Any]
    tuned: str | None = None
    # Whether a text is that of its seed, as without drafts; vLLM's own test of drafts keeps the distribution alone.
    same_text: bool = False
    prepare: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True)
class Tables:
    """The files of the latency tables: of trees of any shape, and of chains with siblings."""

    whole: Path
    chain: Path


def ways(config: VllmConfig, checkpoint: Checkpoint, selector: str, tables: Tables, temperature: float) -> list[Way]:
    """All of them, for texts at a temperature."""
    plain = engine_options(config)
    found = [
        Way("plain", plain),
        Way("plain, treewright's sampler", plain | {"worker_cls": WORKER}, same_text=True),
        *(Way(f"chain of {length}", _chain(config, length), "best chain", prepare=register) for length in CHAINS),
        Way("chain by batch size", _scheduled(config), prepare=register),
    ]
    lengths = {"length, thresholds": VllmSettings(depth=6, width=1, repair_sampling=True, path_prob=0.3)}
    learned = VllmSettings(selector=selector, latency=str(tables.chain), repair_sampling=True)
    lengths["length, learned"] = learned
    found += [Way(name, _length(config, settings), prepare=register) for name, settings in lengths.items()]
    static = static_shape(checkpoint, LatencyTable.load(tables.whole), temperature, config.budget)
    shapes = {
        "static tree": VllmSettings(tree=static),
        "static tree, thresholds": VllmSettings(tree=static, min_prob=MIN_PROB, path_prob=PATH_PROB),
        "dynamic tree": VllmSettings(depth=4, width=3),
        "learned": VllmSettings(selector=selector, latency=str(tables.whole)),
        "learned, guarded": VllmSettings(selector=selector, latency=str(tables.whole), guard=True),
    }
    found += [Way(name, tree_options(config, settings), same_text=True) for name, settings in shapes.items()]
    chained = replace(config, method="draft_model")
    siblings = VllmSettings(selector=selector, latency=str(tables.chain))
    device = VllmSettings(selector=selector, latency=str(DEVICE_PRICES))
    found.append(Way("learned, priced as on a device", tree_options(config, device), same_text=True))
    return [*found, Way("learned, chain with siblings", tree_options(chained, siblings), same_text=True)]


def register() -> None:
    """vLLM's own test of drafts made right, and our proposers in its place, which are vLLM's without settings."""
    from ....runtime.adapters.vllm.plugin import register as register_proposers
    from ....runtime.adapters.vllm.repair import repair_sampling

    repair_sampling()
    register_proposers()


def static_shape(checkpoint: Checkpoint, table: LatencyTable, temperature: float, budget: int) -> str:
    """The static tree with the most expected tokens per millisecond (Sequoia's programme), as vLLM wrote such."""
    limits = checkpoint.config.limits
    probs: Sequence[float] = nearest(checkpoint.baselines.rank_probs[checkpoint.config.scheme], temperature)
    paths = cheapest_tree(probs[: limits.width], table, max_depth=limits.max_depth, sizes=[budget])
    return str([tuple(path) for path in paths])


def _speculative(config: VllmConfig, length: int) -> dict[str, Any]:
    drafter = resolved(str(config.drafter), "drafter")
    return {"method": "draft_model", "model": drafter, "num_speculative_tokens": length}


def _chain(config: VllmConfig, length: int) -> dict[str, Any]:
    return engine_options(config) | {"speculative_config": _speculative(config, length)}


def _scheduled(config: VllmConfig) -> dict[str, Any]:
    schedule = {"num_speculative_tokens_per_batch_size": [list(step) for step in SCHEDULE]}
    longest = max(length for _, _, length in SCHEDULE)
    return engine_options(config) | {"speculative_config": _speculative(config, longest) | schedule}


def _length(config: VllmConfig, settings: VllmSettings) -> dict[str, Any]:
    given = tree_options(replace(config, method="draft_model"), settings)
    del given["worker_cls"]
    return given | {"speculative_config": _speculative(config, max(CHAINS))}
