"""The report of a training run as one self-contained HTML file: figures, how to read them, and their numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...controller.intervals import Interval
from ...controller.plans.setting import temperature_title
from ...controller.policies.learned import LEARNED
from ..evaluate.ablation import Ablation
from ..evaluate.drafters import DrafterRow
from ..evaluate.reliability import Curves
from ..replay.machines import BUDGET_TEXTS, REGIME_TEXTS
from ..replay.study import GROUPINGS, Study
from .figures import budgets_figure, drafters_figure, intervals_figure, lengths_figure, reliability_figure
from .rendering import render


def report_page(
    facts: Mapping[str, Any],
    curves: Curves,
    study: Study | None,
    *,
    ablation: Ablation | None = None,
    drafters: Sequence[DrafterRow] = (),
) -> str:
    """No `study` where nothing was replayed; an `ablation` and rows of several `drafters` where the run made them."""
    study = study if study is not None and study.temperatures else None
    figures = {head: reliability_figure(head, of_head) for head, of_head in curves._asdict().items()}
    if study is not None:
        figures |= dict(_study_figures(study))
    if drafters:
        figures["drafters"] = drafters_figure("drafters", drafters)
    return render(
        "page.html",
        title="treewright training report",
        facts=facts,
        figures=figures,
        curves=curves._asdict(),
        study=study,
        groupings=GROUPINGS,
        ablation=ablation,
        drafters=sorted(drafters, key=lambda row: (row.temperature, row.first_choice)),
        interval=Interval,
        regime_texts=REGIME_TEXTS,
        budget_texts=BUDGET_TEXTS,
    )


def _study_figures(study: Study) -> Iterator[tuple[str, str]]:
    rows = study.temperatures
    panels = [
        (
            f"{temperature_title(row.temperature)}; oracle: {row.oracle_speed_up:.2f} times",
            [(policy.policy, policy.speed_up) for policy in row.policies],
        )
        for row in rows
    ]
    axis = "speed-up over plain decoding (times)"
    yield "speed-up", intervals_figure("speed-up", panels, axis, highlight=LEARNED)
    for name in GROUPINGS:
        panels = [
            (temperature_title(row.temperature), [(group.group, group.gain) for group in getattr(row, name)])
            for row in rows
        ]
        yield name, intervals_figure(name, panels, "gain over the best baseline (times)")
    machines = [
        (
            temperature_title(row.temperature),
            [(each.regime.title, each.gain) for each in study.machines if each.temperature == row.temperature],
        )
        for row in rows
    ]
    yield "machines", intervals_figure("machines", machines, "gain over the best baseline there (times)")
    yield "lengths", lengths_figure("lengths", rows)
    if study.budgets:
        yield "budget-tokens", budgets_figure("budget-tokens", study.budgets, "block_efficiency", "tokens per step")
        yield "budget-speed", budgets_figure("budget-speed", study.budgets, "speed_up", axis)
