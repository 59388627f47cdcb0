"""The report of a training run, whole: which sections it has, and in which order."""

from collections.abc import Mapping, Sequence
from typing import Any

from .ablation import ablation_sections
from .drafters import drafter_sections
from .gains import budget_sections, gain_sections, machine_sections, place_sections
from .page import page, section
from .predictions import calibration_sections, length_sections


def report_page(
    facts: Mapping[str, Any],
    curves: Mapping[str, Any],
    numbers: Mapping[str, Any] | None,
    *,
    ablation: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    drafters: Sequence[Mapping[str, Any]] = (),
) -> str:
    """HTML of a training run; `curves` of both heads, `numbers` of `study` or None where nothing was replayed.

    `ablation` and the rows of several `drafters` have their sections where the run was asked for them.
    """
    sections = [*calibration_sections(curves)]
    if numbers is None or not numbers["temperatures"]:
        sections.append(
            section(
                "Replay",
                "These traces hold no envelopes on both sides of the split, so no policy could be replayed. Collect "
                "with envelopes.texts above 0 to see gains, predictions and budgets here.",
            )
        )
    else:
        sections = [*gain_sections(numbers["temperatures"]), *sections, *length_sections(numbers["temperatures"])]
        sections += [
            *place_sections(numbers["temperatures"]),
            *machine_sections(numbers["machines"]),
            *budget_sections(numbers["budgets"]),
        ]
    sections += [*ablation_sections(ablation), *drafter_sections(drafters)]
    return page("treewright training report", facts, sections)
