"""Told by the report: what each group of features is worth, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .page import interval, section, table


def ablation_sections(ablation: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> Iterator[str]:
    if ablation is None:
        return
    words = (
        "The network fitted again on the same rows, each time with one group of features held at its mean. Larger "
        "losses mean that the group was missed. The time per step was measured where this page was made, without "
        "language models: an even share of making all columns, and what a narrower network saves. The last column "
        "names what the group costs beside that, which is not in the number. Charged, a step costs that much more "
        "than the latency table says; above 1, the gain of the whole set says that the group earns its time. Every "
        "fit ends a little elsewhere even with all features, so differences of the last digit mean nothing."
    )
    fits = [
        {
            "without": row["without"],
            "columns": row["columns"],
            "Brier": f"{row['brier']:.5f}",
            "log loss (nats)": f"{row['log_loss']:.5f}",
            "coverage log loss (nats)": f"{row['coverage_log_loss']:.5f}",
            "time per step (µs)": "-" if row["cost_us"] is None else f"{row['cost_us']:.2f}",
            "not in that time": row["cost_elsewhere"],
        }
        for row in ablation["fits"]
    ]
    replays = [
        {
            "T": f"{row['temperature']:g}",
            "without": row["without"],
            "speed-up": row["speed_up"],
            "speed-up, charged": row["speed_up_charged"],
            "gain of the whole set, charged (95 %)": interval((row["gain_of_whole"], row["low"], row["high"])),
        }
        for row in ablation["replays"]
    ]
    parts = [table("Fits without a group", fits), table("Replays without a group", replays)]
    yield section("Which features are worth their time?", words, *parts)
