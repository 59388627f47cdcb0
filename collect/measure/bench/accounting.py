"""Where a step's time goes: forwards of the two models, and everything around them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from ....controller.contract import ALL_SCHEMES
from ....controller.memory import MemoryConfig
from ....controller.plans.plan import PolicyPlan
from ....runtime.build import tree_decoder
from ....runtime.engines.base import CachedModel
from ....runtime.pair import Pair
from .policies import Job


class TimedModel:
    """A `CachedModel` that sums the time of its forwards; not valid on a GPU, where a call returns earlier."""

    def __init__(self, model: CachedModel):
        self._model = model
        self.forward_ms = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        return self._model.hidden_layers

    @hidden_layers.setter
    def hidden_layers(self, layers: tuple[int, ...]) -> None:
        self._model.hidden_layers = layers

    def forward(self, *args: Any, **options: Any) -> Any:
        start = perf_counter()
        rows = self._model.forward(*args, **options)
        self.forward_ms += (perf_counter() - start) * 1e3
        return rows


def step_shares(
    pair: Pair,
    plan: PolicyPlan,
    jobs: Sequence[Job],
    engine_ms: Callable[[], float] | None = None,
    memory: MemoryConfig | None = None,
) -> dict[str, float]:
    """Shares of the time of all steps of `jobs`, one text at a time. If `engine_ms` tells how long the engine itself
    has computed so far, what else the forwards take has a share of its own, which theirs hold, too."""
    before = engine_ms() if engine_ms else 0.0
    target: Any = TimedModel(pair.target)
    drafter: Any = TimedModel(pair.drafter)
    timed = replace(pair, target=target, source=drafter)
    decoder = tree_decoder(timed, ALL_SCHEMES[plan.scheme], plan.build(), verifier=plan.verifier, memory=memory)
    records = [record for job in jobs for record in decoder.steps([job.request], decoder.open_streams([job.request]))]
    total = sum(record.total_ms for record in records)
    parts = {
        "target's forwards": target.forward_ms,
        "drafter's forwards": drafter.forward_ms,
        "around the target's": sum(record.read_ms + record.target_ms for record in records) - target.forward_ms,
        "around the drafter's": sum(record.draft_ms for record in records) - drafter.forward_ms,
        "controller": sum(record.controller_ms for record in records),
        "verification": sum(record.verify_ms for record in records),
        "commit": sum(record.commit_ms for record in records),
    }
    if engine_ms:
        parts["fill and logits"] = target.forward_ms + drafter.forward_ms - (engine_ms() - before)
    return {name: round(ms / total, 4) for name, ms in parts.items()}


def shares_sentence(shares: dict[str, float]) -> str:
    forwards = sum(share for name, share in shares.items() if name.endswith("forwards"))
    return f"Of a learned step {forwards:.1%} are forwards: " + ", ".join(
        f"{name} {share:.1%}" for name, share in shares.items()
    )
