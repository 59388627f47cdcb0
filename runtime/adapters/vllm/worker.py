"""The worker to start vLLM with: `--worker-cls treewright.runtime.adapters.vllm.worker.TreeWorker`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend
from vllm.v1.attention.selector import _cached_get_attn_backend
from vllm.v1.worker import cpu_worker, gpu_model_runner
from vllm.v1.worker.cpu_worker import CPUWorker

from ....controller.errors import InputError
from .attention import TreeAttentionBackend
from .best_first import TreeProposer
from .checks import PROPOSERS, WORKER, require_known, unsupported_reason
from .plugin import withdraw
from .proposers import TreeDraftModelProposer, TreeEagleProposer
from .runner import TreeRunner
from .settings import VllmSettings


class TreeWorker(CPUWorker):
    """vLLM's worker on the CPU, with our model runner, proposers and attention."""

    model_runner: TreeRunner  # pyright: ignore[reportIncompatibleVariableOverride]  # made by `init_device`

    def init_device(self) -> None:
        require_known((*PROPOSERS, *WORKER))
        if (reason := unsupported_reason(self.vllm_config)) is not None:
            raise InputError(reason)
        settings = VllmSettings.parse(self.vllm_config.additional_config)
        if settings is not None:
            self.require_useful(settings)
        # On the CPU vLLM takes this backend whichever is named.
        backend = TreeAttentionBackend
        _cached_get_attn_backend.cache_clear()  # of an engine that ran in this process before
        register_backend(AttentionBackendEnum.CPU_ATTN, f"{backend.__module__}.{backend.__qualname__}")
        proposers = {"DraftModelProposer": TreeDraftModelProposer, "EagleProposer": TreeEagleProposer}
        withdraw()  # else the runner would not know ours for proposers of its kinds
        with replaced(cpu_worker, CPUModelRunner=TreeRunner), replaced(gpu_model_runner, **proposers):
            super().init_device()

    def require_useful(self, settings: VllmSettings) -> None:
        """InputError for a setting that this worker would not look at."""
        speculative = self.vllm_config.speculative_config
        whole = speculative is not None and str(speculative.model).endswith(TreeProposer.__name__)
        idle = {
            "record": (
                settings.record is not None,
                "is for --worker-cls treewright.collect.vllm_worker.RecordingWorker",
            ),
            "drafter": (settings.drafter is not None and not whole, "is the model of best_first.TreeProposer alone"),
            "repair_sampling": (settings.repair_sampling, "mends a sampler that trees do not use"),
        }
        if settings.guard and self.parallel_config.tensor_parallel_size > 1:
            raise InputError("treewright.guard goes by the clock, and workers of one model have one each; leave it out")
        for name, (is_idle, why) in idle.items():
            if is_idle:
                raise InputError(f"treewright.{name} {why}; leave it out")
        if speculative is None and settings != replace(VllmSettings(), record=settings.record):
            raise InputError("treewright shapes drafts, but no --speculative-config asks for any; give both or neither")

    def treewright_counters(self) -> dict[str, int]:
        """For `collective_rpc`: what this worker has counted."""
        return self.model_runner.counters.as_dict()

    def treewright_change(self, changes: dict[str, Any]) -> dict[str, Any]:
        """For `collective_rpc`: other thresholds from the next step on; all settings as they are then."""
        self.model_runner.change(self.model_runner.settings.changed(changes))
        return asdict(self.model_runner.settings)


@contextmanager
def replaced(module: ModuleType, **classes: type) -> Iterator[None]:
    """Within, the module makes objects of these classes where its own code names others."""
    before = {name: getattr(module, name) for name in classes}
    for name, value in classes.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
