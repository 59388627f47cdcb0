"""Told by the report: do predictions come true, node by node and step by step?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .figures import lengths_figure, reliability_figure
from .page import figure, interval, section, table


def calibration_sections(curves: Mapping[str, Any]) -> Iterator[str]:
    for head, title, words in (
        (
            "accept",
            "Does the accept head tell true probabilities?",
            "Each point is a fifteenth of the held-out drafted tokens of one depth: how likely the head thought them, "
            "and how often the text took them. On the dotted line both agree; below it the head hopes too much.",
        ),
        (
            "coverage",
            "Does the coverage head tell true probabilities?",
            "Before anything is drafted under a node, this head says how likely the drafter's first, second, ... "
            "candidate will be the text's next token. Each point is a fifteenth of the held-out nodes.",
        ),
    ):
        rows = [
            {
                "curve": curve["name"],
                "rows": curve["rows"],
                "mean predicted": curve["mean_predicted"],
                "observed": curve["observed"],
                "calibration error": curve["ece"],
            }
            for curve in curves[head]
        ]
        svg = reliability_figure(f"{head}-reliability", curves[head])
        described = f"Reliability diagram of the {head} head: observed against predicted frequency."
        yield section(title, words, figure(svg, described), table(f"Calibration of the {head} head", rows))


def length_sections(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = (
        "Before a step, a policy expects to get as many drafted tokens accepted as the path probabilities of its kept "
        "nodes add up to, E(A). Each point is a tenth of its steps; on the dotted line it gets what it expects, below "
        "it less; the binned slope is that of these points, 1 where promises are kept, with its 95 % interval over "
        "texts. r is the correlation over single steps. A step accepts a whole number of tokens by chance, so even "
        "exact predictions would not reach 1: r attainable is what they would reach if every kept node came true "
        "exactly as often as predicted."
    )
    fits = [
        {
            "T": f"{row['temperature']:g}",
            "policy": policy,
            "r": fit["r"],
            "r attainable": fit["r_attainable"],
            "slope": fit["slope"],
            "binned slope (95 %)": interval(fit["block_slope"]),
            "mean expected (tokens)": fit["mean_expected"],
            "mean accepted (tokens)": fit["mean_accepted"],
        }
        for row in rows
        for policy, fit in row["lengths"].items()
    ]
    scheme = next(name for name in rows[0]["lengths"] if name.startswith("learned")).removeprefix("learned")
    shown = [
        {**row, "lengths": {name: fit for name, fit in row["lengths"].items() if name.endswith(scheme)}} for row in rows
    ]
    svg = lengths_figure("lengths", shown)
    described = "Realised against expected accepted tokens per step."
    yield section(
        "Does a step bring what it promised?", words, figure(svg, described), table("Expected and realised", fits)
    )
