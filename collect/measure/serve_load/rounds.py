"""Rounds of load: the same texts with speculation and without, one after the other in random order."""

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ....controller.console import progress
from ...prompts.prompt import Prompt
from .asks import asks_of_round
from .client import Answer, Client, Counters, Speculation
from .settings import LoadConfig

OFF: Speculation = "off"
AUTO: Speculation = "auto"


class Burst(NamedTuple):
    """The texts of one round in one way."""

    answers: list[Answer]
    seconds: float
    counted: Counters  # by how much the server's counters rose

    @property
    def num_tokens(self) -> int:
        return sum(answer.num_tokens for answer in self.answers)


class Round(NamedTuple):
    off: Burst
    auto: Burst


async def run_rounds(
    client: Client, model: str, prompts: Sequence[Prompt], load: LoadConfig, concurrency: int
) -> list[Round]:
    """The rounds of one number of clients, without the first, which is for warming up."""
    generator, rounds = np.random.default_rng(0), []
    with progress() as display:
        for number in display.track(range(load.rounds + 1), description=f"load: {concurrency} at once"):
            asks, bursts = asks_of_round(prompts, load, concurrency, number), dict[Speculation, Burst]()
            for way in (OFF, AUTO) if generator.random() < 0.5 else (AUTO, OFF):
                before, started = await client.counters(), perf_counter()
                answers = await client.side_by_side(model, asks, concurrency, way)
                seconds, after = perf_counter() - started, await client.counters()
                rise = {name: value - before.get(name, 0.0) for name, value in after.items()}
                bursts[way] = Burst(answers, seconds, rise)
            rounds.append(Round(bursts[OFF], bursts[AUTO]))
    return rounds[1:]
