"""The options that start vLLM with the adapter, from a few words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ....controller.errors import InputError
from ....controller.ranges import require_between
from ....controller.trees.limits import LARGEST
from ...engines.transformers.loading import require_config
from ...pair_config import REFERENCE, resolved
from .settings import SECTION, VllmSettings

WORKER = f"{__package__}.worker.TreeWorker"
WHOLE_TREES = f"{__package__}.best_first.TreeProposer"
WHOLE = "whole"
METHODS = (WHOLE, "draft_model", "eagle", "eagle3")


@dataclass(frozen=True)
class VllmConfig:
    """Which models vLLM decodes, and what drafts for them."""

    target: str = REFERENCE
    """Folder or hub id of the target; `reference` is the pair that ships with treewright"""
    drafter: str | None = REFERENCE
    """Folder or hub id of the drafter model, or of an EAGLE head; none decodes without drafts"""
    method: str = WHOLE
    """whole: trees of any shape by treewright's own drafter; draft_model, eagle or eagle3: chains by vLLM's drafters,
    with siblings"""
    budget: int = 12
    """Most nodes of a tree, vLLM's num_speculative_tokens"""
    max_model_len: int = 2048
    """Longest text, prompt included"""
    max_num_seqs: int = 8
    """Texts decoded together"""
    dtype: str = "float32"
    """Number format of the models"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"vllm.method is one of {', '.join(METHODS)}, got {self.method!r}")
        require_between("vllm.budget", self.budget, 1, LARGEST.budget)
        for name in ("max_model_len", "max_num_seqs"):
            require_between(f"vllm.{name}", getattr(self, name), 1, 2**20)


def require_models(config: VllmConfig) -> None:
    """InputError here, and not in the middle of vLLM's log, where a model cannot be found."""
    require_config(resolved(config.target, "target"))
    if config.drafter is not None:
        require_config(resolved(config.drafter, "drafter"))


def engine_options(config: VllmConfig) -> dict[str, Any]:
    """Of an engine without drafts: arguments of `vllm.LLM`, or of its server with dashes."""
    return {
        "model": resolved(config.target, "target"),
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": True,
    }


def tree_options(config: VllmConfig, settings: VllmSettings, worker: str = WORKER) -> dict[str, Any]:
    """Of an engine with trees; without a drafter our worker decodes without drafts."""
    options = engine_options(config) | {"worker_cls": worker}
    if config.drafter is None:
        return options
    drafter = resolved(config.drafter, "drafter")
    speculative = {"method": config.method, "model": drafter, "num_speculative_tokens": config.budget}
    section = given(settings)
    if config.method == WHOLE:
        if settings.drafter is not None:
            raise InputError(f"trees.drafter is what vllm.drafter is here, got {settings.drafter!r}; give the latter")
        speculative |= {"method": "custom_class", "model": WHOLE_TREES}
        section["drafter"] = drafter
    return options | {"speculative_config": speculative, "additional_config": {SECTION: section}}


def given(settings: VllmSettings) -> dict[str, Any]:
    """The settings that are not as they are by themselves."""
    return {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if getattr(settings, field.name) != field.default
    }


def arguments(options: Mapping[str, Any]) -> list[str]:
    """The same as words of vLLM's command line."""
    words = []
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(json.dumps(value) if isinstance(value, dict) else str(value))
    return words
