"""The policies under comparison as things that run: a plan with a decoder, and other loops for reference."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple

from ....controller.contract import ALL_SCHEMES, WALK
from ....controller.learned.scorer import LearnedScorer
from ....controller.memory import MemoryConfig
from ....controller.plans.plan import PolicyPlan
from ....controller.policies.guard import Guard
from ....controller.policies.selector import Selector
from ....controller.pricing.latency import LatencyTable
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.decoder import Decoder
from ....runtime.pair import Pair
from ....runtime.request import Request
from ....runtime.sampling import Sampling
from ....runtime.stats import DecodeStats
from ....runtime.table_fit import PartRatios, StepRatios


class Job(NamedTuple):
    """One text to generate."""

    prompt_ids: list[int]
    max_tokens: int
    sampling: Sampling
    domain: str

    @property
    def request(self) -> Request:
        """The end-of-text token does not end it: every policy generates the same number of tokens."""
        return Request(self.prompt_ids, self.max_tokens, self.sampling, ignore_end=True)


@dataclass(frozen=True)
class Run:
    """One job done by one policy."""

    tokens: list[int]
    seconds: float
    stats: DecodeStats | None  # None for a loop that is not ours
    priced_ms: float = 0.0  # what its steps cost by the latency table
    ratios: tuple[PartRatios, ...] = ()  # measured over priced time, of the steps where it is known


@dataclass(frozen=True)
class Policy:
    """A policy with its settings fixed."""

    family: str
    scheme: str  # "-" where nothing is drafted under a scheme of ours
    settings: str
    run: Callable[[Job], Run]
    # As plain decoding, by the same seed; verifiers other than the walk keep only the distribution.
    same_text: bool = True


def plain_policy(pair: Pair, table: LatencyTable) -> Policy:
    """Plain decoding in our loop, which all ratios are to."""
    return Policy("plain", "-", "", runner(plain_decoder(pair), table))


def planned_policy(pair: Pair, plan: PolicyPlan, table: LatencyTable, memory: MemoryConfig | None = None) -> Policy:
    """The plan with a decoder of its own and no running state yet."""
    decoder = tree_decoder(pair, ALL_SCHEMES[plan.scheme], plan.build(), verifier=plan.verifier, memory=memory)
    walks = plan.verifier == WALK.name
    return Policy(plan.family, plan.scheme, plan.text, runner(decoder, table, is_priced=walks), same_text=walks)


def as_trained(plan: PolicyPlan) -> PolicyPlan:
    """A learned plan whose score is not recalibrated while decoding."""

    def build() -> Selector:
        selector = plan.build()
        assert isinstance(selector, Selector) and isinstance(selector.scorer, LearnedScorer)
        return replace(selector, scorer=selector.scorer.as_trained())

    return replace(plan, family=f"{plan.family}, not recalibrated", build=build)


def guarded(plan: PolicyPlan, table: LatencyTable) -> PolicyPlan:
    """The plan as `generate` and `serve` run it: behind the guard."""
    return replace(plan, family=f"{plan.family}, guarded", build=lambda: Guard(plan.build(), table))


def runner(decoder: Decoder, table: LatencyTable, *, is_priced: bool = True) -> Callable[[Job], Run]:
    """What does a job with the decoder. `is_priced` where the table covers the whole step: not under verifiers other
    than the walk."""

    def run(job: Job) -> Run:
        requests = [job.request]
        started = perf_counter()
        (stream,) = streams = decoder.open_streams(requests)
        records = list(decoder.steps(requests, streams))
        seconds = perf_counter() - started
        stats, steps = DecodeStats(), StepRatios(table)
        priced_ms = 0.0
        for record in records:
            stats.add(record)
            context, num_nodes = int(record.context.positions[0]), int(record.kept.num_nodes[0]) - 1
            priced_ms += table.step_ms(record.level_widths, num_nodes, batch=1, context=context)
        ratios = (steps.of(record) for record in records if is_priced)
        return Run(stream.token_ids, seconds, stats, priced_ms, tuple(step for step in ratios if step is not None))

    return run
