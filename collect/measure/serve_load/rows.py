"""What a load came to: throughput and times with speculation and without, and their ratio paired by round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....controller.console import print_table
from ....controller.intervals import ratio_interval
from ..bench.report import interval_text
from .rounds import Burst, Round

PERCENTILES = (50, 95, 99)
# Of a step of the batch, by what the server times.
PARTS = {"read": "prefill_seconds", "draft": "draft_seconds", "choose": "selector_seconds", "verify": "verify_seconds"}


@dataclass(frozen=True)
class WayRow:
    """One way of serving, over all rounds; a time is [p50, p95, p99] over texts."""

    tokens_per_second: float
    first_token_ms: list[float]
    latency_ms: list[float]
    steps: int  # of the batch
    part_ms: dict[str, float]  # milliseconds of a step, by part


@dataclass(frozen=True)
class LoadRow:
    """One number of clients; the ratio is of tokens per second, with speculation over without."""

    concurrency: int
    rounds: int
    texts: int  # in each way
    texts_unlike: int  # those that differ between the ways
    off: WayRow
    auto: WayRow
    ratio: float
    ratio_95: list[float]
    drafting_share: float  # of the steps of single texts with speculation, those that drafted anything
    tokens_per_step: float  # of a single text, with speculation


def load_row(concurrency: int, rounds: Sequence[Round]) -> LoadRow:
    """Both ways of a round generate as many tokens, so the ratio is that of their seconds, turned over."""
    off, auto = [each.off for each in rounds], [each.auto for each in rounds]
    ratio = ratio_interval([burst.seconds for burst in off], [burst.seconds for burst in auto]).rounded(4)
    texts = [
        (before.text, after.text)
        for each in rounds
        for before, after in zip(each.off.answers, each.auto.answers, strict=True)
    ]
    steps, drafts = (_sum(auto, name) for name in ("decode_steps_total", "spec_decode_num_drafts_total"))
    return LoadRow(
        concurrency=concurrency,
        rounds=len(rounds),
        texts=len(texts),
        texts_unlike=sum(before != after for before, after in texts),
        off=way_row(off),
        auto=way_row(auto),
        ratio=ratio.value,
        ratio_95=[ratio.low, ratio.high],
        drafting_share=round(drafts / steps, 4),
        tokens_per_step=round(sum(burst.num_tokens for burst in auto) / steps, 3),
    )


def way_row(bursts: Sequence[Burst]) -> WayRow:
    answers = [answer for burst in bursts for answer in burst.answers]
    steps = _sum(bursts, "selector_seconds_count")
    return WayRow(
        tokens_per_second=round(sum(burst.num_tokens for burst in bursts) / sum(burst.seconds for burst in bursts), 1),
        first_token_ms=_percentiles([answer.first_ms for answer in answers]),
        latency_ms=_percentiles([answer.whole_ms for answer in answers]),
        steps=int(steps),
        part_ms={part: round(1e3 * _sum(bursts, f"{name}_sum") / steps, 3) for part, name in PARTS.items()},
    )


def print_rows(title: str, rows: Sequence[LoadRow]) -> None:
    shown = [
        {
            "at once": row.concurrency,
            "off: tokens/s": row.off.tokens_per_second,
            "auto: tokens/s": row.auto.tokens_per_second,
            "auto / off [95 %]": interval_text(row.ratio, row.ratio_95),
            "off: first token ms": _times(row.off.first_token_ms),
            "auto": _times(row.auto.first_token_ms),
            "off: latency ms": _times(row.off.latency_ms),
            "auto ": _times(row.auto.latency_ms),
            "steps that draft": f"{row.drafting_share:.1%}",
            "unlike": f"{row.texts_unlike}/{row.texts}",
        }
        for row in rows
    ]
    print_table(f"{title}; times are p50 / p95 / p99", shown)
    of_steps = [
        {"at once": row.concurrency, "speculation": name, "steps": way.steps} | way.part_ms
        for row in rows
        for name, way in (("off", row.off), ("auto", row.auto))
    ]
    print_table("Milliseconds of a step of the batch, by part", of_steps)


def _sum(bursts: Sequence[Burst], counter: str) -> float:
    return sum(burst.counted[counter] for burst in bursts)


def _percentiles(values: Sequence[float]) -> list[float]:
    return [round(float(value), 1) for value in np.percentile(values, PERCENTILES)]


def _times(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)
