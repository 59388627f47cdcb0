"""Figures of the report as SVG for an HTML page; lines and text take the page's own colour."""

import re
from collections.abc import Sequence
from io import StringIO
from itertools import cycle
from pathlib import Path

import matplotlib
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...controller.intervals import Interval
from ...controller.plans.setting import temperature_title
from ...controller.policies.learned import LEARNED
from ..evaluate.drafters import CHOICE, DrafterRow
from ..evaluate.reliability import Curve
from ..replay.machines import BudgetRow
from ..replay.oracle import ORACLE
from ..replay.study import TemperatureStudy

# As in the style; replaced by `currentColor`, so that a figure is readable on a light and on a dark page.
INK = "#010203"
COLOURS = ("#3b8fd6", "#e08a1e", "#2fa37a", "#c65d9b", "#8c7ae6", "#b0892b")
STYLE = Path(__file__).with_name("figures.mplstyle")
SIZE = (6.4, 4.2)  # inches; the page scales it


def reliability_figure(name: str, curves: Sequence[Curve]) -> str:
    """Predicted against observed frequency, one line per curve."""
    with style.context(STYLE):
        figure, (axes,) = _figure(1)
        shades = matplotlib.colormaps["viridis"]
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="perfect")
        for number, curve in enumerate(curves):
            shade = shades(0.25 + 0.65 * number / max(1, len(curves) - 1))
            axes.plot(*_columns(curve.points), color=shade, marker="o", markersize=3, label=curve.name)
        axes.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left", ncols=2 if len(curves) > 4 else 1)
        return _svg(figure, name)


def lengths_figure(name: str, rows: Sequence[TemperatureStudy]) -> str:
    """Expected against realised accepted length under the learned policy's scheme; one panel per temperature."""
    scheme = next(policy for policy in rows[0].lengths if policy.startswith(LEARNED)).removeprefix(LEARNED)
    with style.context(STYLE):
        figure, panels = _figure(len(rows), share_y=True)
        for axes, row in zip(panels, rows, strict=True):
            largest = 0.5
            fits = {policy: fit for policy, fit in row.lengths.items() if policy.endswith(scheme)}
            for colour, (policy, fit) in zip(cycle(COLOURS), fits.items(), strict=False):
                expected, accepted = _columns(fit.bins)
                largest = max(largest, *expected, *accepted)
                axes.plot(expected, accepted, color=colour, marker="o", markersize=4, label=policy)
            axes.plot([0, largest], [0, largest], color=INK, linewidth=0.8, linestyle=":", label="perfect")
            axes.set(xlabel="expected accepted tokens per step", title=temperature_title(row.temperature))
        panels[0].set_ylabel("realised accepted tokens per step")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return _svg(figure, name)


def intervals_figure(
    name: str, groups: Sequence[tuple[str, Sequence[tuple[str, Interval]]]], axis: str, highlight: str = ""
) -> str:
    """Ratios with their intervals, one panel per (title, rows); the dotted line is at 1."""
    with style.context(STYLE):
        heights = [0.75 + 0.26 * len(rows) for _, rows in groups]
        figure = Figure(figsize=(SIZE[0], sum(heights)), layout="constrained")
        panels = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, (title, rows) in zip(panels, groups, strict=True):
            for height, (label, (value, low, high)) in enumerate(reversed(rows)):
                colour = COLOURS[1] if highlight and label.startswith(highlight) else COLOURS[0]
                axes.plot([low, high], [height, height], color=colour, linewidth=2)
                axes.plot([value], [height], color=colour, marker="o", markersize=6)
            axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
            axes.set_ylim(-0.7, len(rows) - 0.3)
            axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
            axes.grid(axis="x", color=INK, alpha=0.15)
            axes.set_title(title)
        panels[-1].set_xlabel(axis)
        return _svg(figure, name)


def budgets_figure(name: str, rows: Sequence[BudgetRow], value: str, axis: str) -> str:
    """One column of the budget curves against the node budget, one panel per temperature."""
    temperatures = sorted({row.temperature for row in rows})
    with style.context(STYLE):
        figure, panels = _figure(len(temperatures), share_y=True)
        for axes, temperature in zip(panels, temperatures, strict=True):
            here = [row for row in rows if row.temperature == temperature]
            for colour, score in zip(cycle(COLOURS), dict.fromkeys(row.score for row in here), strict=False):
                points = [(row.budget, getattr(row, value)) for row in here if row.score == score]
                axes.plot(*_columns(points), color=colour, marker="o", markersize=4, label=score)
            sizes = sorted({row.budget for row in here})
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes], rotation=45)
            axes.minorticks_off()
            axes.grid(axis="y", color=INK, alpha=0.15)
            axes.set(xlabel="node budget", title=temperature_title(temperature))
        panels[0].set_ylabel(axis)
        panels[0].legend()
        return _svg(figure, name)


def drafters_figure(name: str, rows: Sequence[DrafterRow]) -> str:
    """Speed-ups against the share of first choices taken, one panel per temperature, one line per policy."""
    temperatures = sorted({row.temperature for row in rows})
    with style.context(STYLE):
        figure, panels = _figure(len(temperatures), share_y=True)
        for axes, temperature in zip(panels, temperatures, strict=True):
            here = sorted((row for row in rows if row.temperature == temperature), key=lambda row: row.first_choice)
            lines = {
                LEARNED: [(row.first_choice, row.learned) for row in here],
                CHOICE: [(row.first_choice, row.choice) for row in here],
                "best static": [(row.first_choice, row.best_static) for row in here],
            }
            for colour, (policy, points) in zip(COLOURS, lines.items(), strict=False):
                axes.plot(*_columns(points), color=colour, marker="o", markersize=4, label=policy)
            bound = [(row.first_choice, row.oracle) for row in here]
            axes.plot(*_columns(bound), color=INK, marker="o", markersize=3, linestyle=":", label=ORACLE)
            axes.grid(axis="y", color=INK, alpha=0.15)
            axes.set(xlabel="first choice taken (share)", title=temperature_title(temperature))
        panels[0].set_ylabel("speed-up over plain decoding (times)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return _svg(figure, name)


def _figure(num_panels: int, share_y: bool = False) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(SIZE[0] if num_panels == 1 else 3.6 * num_panels, SIZE[1]), layout="constrained")
    return figure, figure.subplots(1, num_panels, squeeze=False, sharey=share_y)[0]


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]


def _svg(figure: Figure, name: str) -> str:
    """One `svg` element with ids of its own, without what only a separate file needs."""
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_alpha(0)
    file = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href").replace(INK, "currentColor")
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", text)
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    return re.sub(r"\n\s*", "\n", text)
