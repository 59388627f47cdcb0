"""Told by the report: what the strength of the drafter does to every policy, over several training runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .figures import drafters_figure
from .page import figure, section, table


def drafter_sections(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    words = (
        "Training runs on the same target with other drafters. To the right the drafter is stronger: more often its "
        "first choice is the token the target takes. Upwards is the speed-up of replayed held-out texts over plain "
        "decoding, each run priced by the latency table of its own traces. The overlap is the probability mass that "
        "target and drafter share at a position."
    )
    shown = [
        {
            "run": row["run"],
            "T": f"{row['temperature']:g}",
            "overlap": row["overlap"],
            "first choice taken": row["first_choice"],
            "learned": row["learned"],
            "choice rule, confidence": row["choice, confidence"],
            "best static": row["best static"],
            "which": row["which"],
            "oracle": row["oracle"],
        }
        for row in sorted(rows, key=lambda row: (row["temperature"], row["first_choice"]))
    ]
    yield section(
        "What does a stronger drafter bring?",
        words,
        figure(drafters_figure("drafters", rows), "Speed-up against how often the drafter's first choice is taken."),
        table("Drafters", shown),
    )
