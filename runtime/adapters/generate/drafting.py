"""How a guest drafts: a learned selector or a dynamic tree, and what it needs of the pair of models at hand."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ....controller.contract import COUPLED, Scheme
from ....controller.errors import InputError
from ....controller.memory import MemoryConfig
from ....controller.policies.base import ShapePolicy
from ....controller.policies.chains import chain_limits
from ....controller.policies.eagle2 import eagle2
from ....controller.policies.guard import Guard
from ....controller.policies.learned import learned_selector, tuned_scales
from ....controller.policies.selector import Selector
from ....controller.pricing.latency import LatencyTable
from ....controller.pricing.latency_cache import stored_table
from ....controller.ranges import require_above, require_between
from ....controller.trees.limits import LARGEST, TreeLimits
from ...engines.transformers.fingerprint import fingerprint
from ...machine.processor import processor_name
from ...machine.threads import stored_fastest
from ...pair_config import REFERENCE, is_reference
from ...schemes.ranked import get_ranked_scheme
from ...selectors import read_selector
from ...speculation import DYNAMIC
from ...text.tokenizer import vocabulary_sha256

# Of a drafter without more: the best dynamic tree of the reference pair at T = 0, by replay.
DEFAULT_TREE = (3, 4, 12)


@dataclass(frozen=True)
class Drafting:
    """What `generate_with` is asked for, besides the drafter."""

    selector: str | os.PathLike[str] | None = None
    dynamic: tuple[int, int, int] | None = None
    scheme: str | None = None
    theta_scale: float | None = None
    guard: bool = True

    def __post_init__(self) -> None:
        if self.selector is not None and self.dynamic is not None:
            raise InputError("selector and dynamic are both given; choose one of them")
        if self.dynamic is not None and len(self.dynamic) != len(DYNAMIC):
            raise InputError(f"dynamic is (depth, width, budget), got {self.dynamic}")
        for (name, limit), size in zip(DYNAMIC.items(), self.dynamic or (), strict=False):
            require_between(f"dynamic's {name}", size, 1, getattr(LARGEST, limit))
        if self.selector is not None and self.scheme is not None:
            raise InputError("a selector brings its own drafting scheme; leave scheme out")
        if self.scheme is not None:
            get_ranked_scheme(self.scheme)
        if self.theta_scale is not None:
            require_above("theta_scale", self.theta_scale, 0)
            if self.selector is None:
                raise InputError("theta_scale does nothing without a selector; give that too, or leave it out")

    @property
    def is_default(self) -> bool:
        return self == type(self)()


class TreePolicy:
    """The trees of one drafter, for any target: the checkpoint is read once."""

    def __init__(self, drafting: Drafting, tokenizer: Any):
        self._drafting = drafting
        known = None if tokenizer is None else vocabulary_sha256(tokenizer.get_vocab())
        folder = drafting.selector
        self.checkpoint = None if folder is None else read_selector(folder, tokenizer_sha256=known)

    @property
    def scheme(self) -> Scheme:
        if self.checkpoint is not None:
            return get_ranked_scheme(self.checkpoint.config.scheme)
        return get_ranked_scheme(self._drafting.scheme or COUPLED.name)

    @property
    def memory(self) -> MemoryConfig | None:
        """Of the drafter's errors, which a selector may carry."""
        return None if self.checkpoint is None else self.checkpoint.config.memory

    @property
    def theta_scales(self) -> Mapping[float, float]:
        """Of a learned selector's choice rule, by temperature."""
        assert self.checkpoint is not None
        given = self._drafting.theta_scale
        return tuned_scales(self.checkpoint) if given is None else {0.0: given}

    def table(self, target: PreTrainedModel, drafter: PreTrainedModel) -> LatencyTable | None:
        """This machine's latency table of the two models; InputError where a selector has none."""
        key = latency_key(target, drafter)
        if self.checkpoint is None:
            return stored_table(key) if self._drafting.guard else None
        table = stored_table(key)
        if table is None:
            raise _no_table(key, target, drafter)
        return table

    def build(self, table: LatencyTable | None) -> ShapePolicy:
        """A policy with no running state yet."""
        selector = self._selector(table)
        return Guard(selector, table) if self._drafting.guard else selector

    def chains(self, target: PreTrainedModel, drafter: PreTrainedModel) -> Selector:
        """The same over chains alone, without a guard; errors as of `table`."""
        selector = self._selector(self.table(target, drafter))
        return replace(selector, limits=chain_limits(selector.limits.max_depth))

    def _selector(self, table: LatencyTable | None) -> Selector:
        if self.checkpoint is not None and table is not None:
            return learned_selector(self.checkpoint, table, theta_scale=self.theta_scales)
        return eagle2(TreeLimits.dynamic(*(self._drafting.dynamic or DEFAULT_TREE)))


def latency_key(target: PreTrainedModel, drafter: PreTrainedModel) -> dict[str, str]:
    """The conditions under which `treewright profile` measures a table for the two models, by the folders that they
    were loaded from."""
    return {
        "pair": _pair_name(target, drafter),
        "fingerprint": hashlib.sha256((fingerprint(target) + fingerprint(drafter)).encode()).hexdigest(),
        "engine": "transformers",
        "device": str(target.device),
        "processor": processor_name(target.device),
        "dtype": "+".join(dict.fromkeys((_dtype(target), _dtype(drafter)))),
        "threads": str(torch.get_num_threads()),
    }


def _pair_name(target: PreTrainedModel, drafter: PreTrainedModel) -> str:
    names = [model.name_or_path or "" for model in (target, drafter)]
    if is_reference(*names):
        return REFERENCE
    return "+".join(Path(name).name for name in names)


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _no_table(key: Mapping[str, str], target: PreTrainedModel, drafter: PreTrainedModel) -> InputError:
    if target.dtype != drafter.dtype:
        return InputError(
            f"a latency table is of two models in one number format, got {_dtype(target)} and {_dtype(drafter)}; load "
            "both in one dtype, or give dynamic in place of the selector"
        )
    known = stored_fastest(key)
    if known is not None:
        return InputError(
            f"this machine's latency table of the two models is for {known} CPU threads, and torch runs on "
            f"{key['threads']}; call torch.set_num_threads({known}), or measure one: {_command(key, target, drafter)}"
        )
    return InputError(
        "this machine has no latency table for the two models yet, by which a selector chooses; run (a minute): "
        + _command(key, target, drafter)
    )


def _command(key: Mapping[str, str], target: PreTrainedModel, drafter: PreTrainedModel) -> str:
    """What measures the table of a key."""
    if key["pair"] == REFERENCE:
        models = ""
    else:
        names = (model.name_or_path or "FOLDER" for model in (target, drafter))
        models = " --pair.target {} --pair.drafter {}".format(*names)
    device = "" if key["device"] == "cpu" else f" --pair.device {key['device']} --pair.graphs false"
    threads = f" --pair.threads {key['threads']}" if key["device"] == "cpu" else ""
    return f"`treewright profile{models} --pair.dtype {key['dtype']}{device}{threads}`"
