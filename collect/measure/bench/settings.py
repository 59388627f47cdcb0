"""What `bench` measures: the `--measure.*` options."""

from dataclasses import dataclass
from pathlib import Path

from ....controller.errors import InputError, named
from ....controller.plans.setting import temperature_key
from ....controller.ranges import require_at_least, require_between
from ....controller.trees.limits import LARGEST
from ....runtime.sampling import Sampling
from ...text import check_temperatures
from .measure import WARM_UP_TOKENS


@dataclass(frozen=True)
class BenchConfig:
    """What is measured."""

    temperatures: tuple[float, ...] = (0.6, 1.0, 0.0)
    """Temperatures; greedy runs are capped at 48 tokens"""
    top_p: float = 1.0
    """Nucleus of every text: the likeliest tokens that hold this share of the probability; 1 for all"""
    max_tokens: int = 64
    """Tokens per prompt; the end-of-text token does not end a run"""
    tune_prompts: int = 6
    """Prompts on which each policy's grid is tried, or the two settings that replay found best; 0 tries none and takes
    replay's best, or without replay the untuned first setting"""
    assisted_prompts: int = 6
    """Prompts on which the engine's own speculation (transformers' assisted generation; the draft model and lookup of
    llama.cpp's server) is tuned over its own options, by measured time, because replay does not model its loop; 0
    leaves it at its defaults"""
    tune_tokens: int = 48
    """Tokens per prompt while tuning"""
    bench_prompts: int = 24
    """Prompts on which the tuned policies are measured"""
    fixed_scheme: bool = True
    """Also run every confidence policy under the fixed scheme, where T > 0"""
    verifiers: bool = False
    """Also run sampled trees under every verifier, where T > 0, and price each verification by itself; replay cannot
    rank them, so each is tuned live, over its whole grid"""
    shapes: Path | None = None
    """Instead of all that, run sampled trees whose shapes this checkpoint folder of `train-shapes` chooses, under each
    of its verifiers, against the best fixed tree of each, plain decoding and the learned trees"""
    concurrency: tuple[int, ...] = ()
    """Instead of all that, generate so many texts side by side: the learned trees, as replay tuned them, against plain
    decoding"""
    concurrency_rounds: int = 5
    """Rounds of texts for each of those numbers, the interval's grain; one more is for warming up"""
    inside_generate: bool = False
    """Instead of all that, run the learned trees inside transformers' `generate`, against its own loops"""
    memory: bool = False
    """Instead of all that, run EAGLE-2's trees, the choice rule and the learned trees with the selector's memory of the
    drafter's errors and without"""
    ahead: tuple[int, ...] = ()
    """Instead of all that, run the choice rule and the learned trees above a stage that guesses so many tokens ahead,
    the text's n-grams or the smaller drafter of a stack, beside each drafter alone"""
    seed: int = 10_000
    """Seed of the first prompt's text"""

    def __post_init__(self) -> None:
        check_temperatures("measure.temperatures", self.temperatures)
        if len({*map(temperature_key, self.temperatures)}) < len(self.temperatures):
            raise InputError(f"measure.temperatures are distinct, got {list(self.temperatures)}")
        for name in ("max_tokens", "tune_tokens", "concurrency_rounds"):
            require_at_least(f"measure.{name}", getattr(self, name), 1)
        require_at_least("measure.bench_prompts", self.bench_prompts, 2)  # one has no interval
        for name in ("tune_prompts", "assisted_prompts"):
            require_at_least(f"measure.{name}", getattr(self, name), 0)
        with named("measure.seed"):
            Sampling(seed=self.seed)
        with named("measure.top_p"):
            Sampling(top_p=self.top_p)
        if self.top_p < 1 and self.inside_generate:
            raise InputError(
                "measure.top_p has no part in inside_generate, which samples from all tokens; leave it out"
            )
        if self.concurrency and (min(self.concurrency) < 1 or len(set(self.concurrency)) < len(self.concurrency)):
            raise InputError(f"measure.concurrency is of distinct numbers from 1 up, got {list(self.concurrency)}")
        if self.verifiers and self.concurrency:
            raise InputError("measure.verifiers has no part in measure.concurrency; leave one of them out")
        if self.verifiers and not self.tune_prompts:
            raise InputError("measure.verifiers needs settings tuned live, but tune_prompts is 0; use at least 1")
        if self.shapes is not None and (self.concurrency or self.verifiers or self.inside_generate or self.memory):
            raise InputError(
                "measure.shapes has a round of its own; leave concurrency, verifiers, inside_generate and memory out"
            )
        if self.shapes is not None and min(self.temperatures) == 0:
            raise InputError("measure.shapes is of sampled trees, and greedy text has none; leave temperature 0 out")
        if self.inside_generate and (self.concurrency or self.verifiers):
            raise InputError("measure.inside_generate has a round of its own; leave concurrency and verifiers out")
        if self.memory and (self.concurrency or self.verifiers or self.inside_generate):
            raise InputError(
                "measure.memory has a round of its own; leave concurrency, verifiers and inside_generate out"
            )
        if self.ahead and (self.concurrency or self.verifiers or self.inside_generate or self.memory or self.shapes):
            raise InputError(
                "measure.ahead has a round of its own; leave concurrency, verifiers, inside_generate, memory and "
                "shapes out"
            )
        for size in self.ahead:
            require_between("measure.ahead", size, 1, LARGEST.max_depth)
        if not self.concurrency and self.concurrency_rounds != type(self).concurrency_rounds:
            raise InputError("measure.concurrency_rounds is of measure.concurrency, which is not given; give both")

    @property
    def most_tokens(self) -> int:
        """Of the longest text measured: side by side they are up to half as long again, and warming up has its own."""
        return max(3 * self.max_tokens // 2 if self.concurrency else self.max_tokens, WARM_UP_TOKENS)
