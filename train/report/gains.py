"""Told by the report: what the learned policy gains, where, on which machine, and with how many nodes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .figures import budgets_figure, intervals_figure
from .machines import BUDGET_TEXTS, REGIME_TEXTS
from .page import figure, interval, section, table


def gain_sections(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = (
        "Speed-up over plain decoding on held-out texts, priced by the machine's latency table; each bar is the 95 % "
        "bootstrap interval over texts. Every policy runs with the settings tuned on other documents. The oracle "
        "knows the text beforehand: no policy can pass it, and part of the gap to it cannot be closed by anyone."
    )
    panels = [
        (
            f"T = {row['temperature']:g}; oracle: {row['oracle_speed_up']:.2f} times",
            [(policy["policy"], policy["speed_up"]) for policy in row["policies"]],
        )
        for row in rows
    ]
    svg = intervals_figure("speed-up", panels, "speed-up over plain decoding (times)", highlight="learned")
    parts = [figure(svg, "Speed-up of every policy over plain decoding, with intervals.")]
    parts.append(
        table(
            "The learned policy against the best baseline",
            [
                {
                    "T": f"{row['temperature']:g}",
                    "texts": row["num_texts"],
                    "tokens": row["num_tokens"],
                    "best baseline here": row["best_baseline"],
                    "gain over it (95 %)": interval(row["gain"]),
                    "oracle speed-up": row["oracle_speed_up"],
                    "share of the gap closed": row["gap_closed"],
                }
                for row in rows
            ],
        )
    )
    for row in rows:
        policies = [
            {
                "policy": policy["policy"],
                "speed-up (95 %)": interval(policy["speed_up"]),
                "gain of learned (95 %)": interval(policy["gain_of_learned"]),
                "tokens per step": policy["block_efficiency"],
                "levels per step": policy["levels_per_step"],
                "nodes per step": policy["nodes_per_step"],
                "asked outside": policy["outside"],
                "settings": policy["settings"] or "-",
            }
            for policy in row["policies"]
        ]
        parts.append(table(f"All policies at T = {row['temperature']:g}", policies))
    yield section("What is gained?", words, *parts)


def place_sections(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = (
        "Time of the best baseline over the time of the learned policy on the very same tokens: right of the dotted "
        "line the learned policy wins, left of it it loses. Bars are 95 % intervals over texts. A step's time is "
        "shared evenly by the tokens it wrote."
    )
    parts = []
    for name, title in (
        ("by_domain", "by domain of the text"),
        ("by_entropy", "by the drafter's entropy before the token"),
        ("by_levels", "by levels the learned policy drafted"),
    ):
        panels = [(f"T = {r['temperature']:g}", [(g["group"], g["gain"]) for g in r[name]]) for r in rows]
        svg = intervals_figure(name, panels, "gain over the best baseline (times)")
        parts.append(figure(svg, f"Gain over the best baseline {title}."))
        groups = [
            {
                "T": f"{row['temperature']:g}",
                "group": group["group"],
                "tokens": group["tokens"],
                "gain (95 %)": interval(group["gain"]),
            }
            for row in rows
            for group in row[name]
        ]
        parts.append(table(f"Gain {title}", groups, folded=True))
    yield section("Where does it win, and where does it lose?", words, *parts)


def machine_sections(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = (
        "The same texts on imagined machines: one drafter level costs 1/10 or 1/4 of a plain target step, and a "
        "verified node 0.004 (flat) or 0.1 (steep) of it. Policies that look at prices look at these; fixed settings "
        f"stay as tuned for the measured machine. First {REGIME_TEXTS} texts of each temperature."
    )
    panels = []
    for temperature in dict.fromkeys(row["temperature"] for row in rows):
        here = [(_regime(row), row["gain"]) for row in rows if row["temperature"] == temperature]
        panels.append((f"T = {temperature:g}", here))
    svg = intervals_figure("machines", panels, "gain over the best baseline there (times)")
    shown = [
        {
            "T": f"{row['temperature']:g}",
            "machine": _regime(row),
            "learned speed-up": row["learned_speed_up"],
            "best baseline there": row["best_baseline"],
            "its speed-up": row["best_speed_up"],
            "oracle speed-up": row["oracle_speed_up"],
            "gain (95 %)": interval(row["gain"]),
        }
        for row in rows
    ]
    described = "Gain over the best baseline on machines with other prices."
    yield section("What would other machines gain?", words, figure(svg, described), table("Machines", shown))


def budget_sections(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    words = (
        "A fixed number of verified nodes, picked by each score from the bushiest tree the traces hold, no prices "
        f"asked: more nodes accept more and cost more. The recorded envelopes end at "
        f"{max(row['budget'] for row in rows)} nodes, so larger budgets up to 1024 cannot be replayed; sizes beyond "
        f"the measured ones are priced by the last slope. First {BUDGET_TEXTS} texts of each temperature."
    )
    accepted = budgets_figure("budget-tokens", rows, "block_efficiency", "tokens per step")
    speed = budgets_figure("budget-speed", rows, "speed_up", "speed-up over plain decoding (times)")
    shown = [
        {
            "T": f"{row['temperature']:g}",
            "score": row["score"],
            "budget (nodes)": row["budget"],
            "kept per step": row["nodes_per_step"],
            "tokens per step": row["block_efficiency"],
            "speed-up": row["speed_up"],
            "asked outside": row["outside"],
        }
        for row in rows
    ]
    yield section(
        "How many nodes are worth verifying?",
        words,
        figure(accepted, "Tokens per step against the node budget."),
        figure(speed, "Speed-up against the node budget."),
        table("Node budgets", shown, folded=True),
    )


def _regime(row: Mapping[str, Any]) -> str:
    return f"level {row['drafter_level']:g}, node {row['per_node']:g}"
