"""How strong a drafter is, and every policy's speed-up with it: training runs on one target with several drafters."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...collect.trace import TraceFolder, rank_column
from ...controller.checkpoint import Checkpoint
from ...controller.console import print_table
from ...controller.contract import FIXED
from ...controller.errors import InputError, first_line
from ...controller.plans.setting import DECIMALS
from ...controller.policies.learned import LEARNED
from ..replay.deltas import OPT_TREE
from ..replay.oracle import ORACLE
from ..replay.tuning import ReplayRow

STATIC = ("chain", "static", "static, thresholds", "Sequoia")
CHOICE = "choice, confidence"


@dataclass(frozen=True)
class DrafterStrength:
    temperature: float
    positions: int
    overlap: float  # mean probability mass shared with the target's distribution
    first_choice: float  # how often it is taken, under the scheme of the traces
    first_choice_fixed: float


@dataclass(frozen=True)
class DrafterRow:
    """The speed-ups of a training run at one temperature beside the strength of its drafter."""

    run: str
    temperature: float
    overlap: float
    first_choice: float
    learned: float
    choice: float
    best_static: float
    which: str  # static policy
    oracle: float
    opt_tree_r: float | None  # expected and accepted length per step of OPT-Tree; None where nothing was studied
    opt_tree_r_attainable: float | None  # by exact predictions of the same spread

    def as_json(self) -> dict[str, Any]:
        names = {
            "choice": CHOICE,
            "best_static": "best static",
            "opt_tree_r": "r of OPT-Tree",
            "opt_tree_r_attainable": "r attainable",
        }
        return {names.get(name, name): value for name, value in asdict(self).items()}


def drafter_strength(folder: TraceFolder) -> list[DrafterStrength]:
    """By temperature."""
    sums: dict[float, np.ndarray] = {}
    ranks = [rank_column(scheme) for scheme in (folder.header.scheme, FIXED.name)]
    names = list(dict.fromkeys(("temperature", "overlap", *ranks)))
    for batch in folder.iterate("positions", names):
        columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in names}
        temperatures = columns["temperature"].astype(np.float64).round(DECIMALS)
        rows = np.stack([np.ones(len(temperatures)), columns["overlap"], *(columns[name] == 0 for name in ranks)])
        for temperature in np.unique(temperatures).tolist():
            sums[temperature] = sums.get(temperature, 0.0) + rows[:, temperatures == temperature].sum(axis=1)
    return [
        DrafterStrength(temperature, int(count), *(round(float(value / count), 4) for value in values))
        for temperature, (count, *values) in sorted(sums.items())
    ]


def drafter_rows(
    run: str,
    scheme: str,
    drafter: Sequence[DrafterStrength],
    replays: Sequence[ReplayRow],
    study: Sequence[Mapping[str, Any]] = (),
) -> list[DrafterRow]:
    """One row per temperature at which the run replayed the learned policy; `study` as `metrics.json` keeps it."""
    rows, label = [], f"{OPT_TREE} ({scheme})"
    names = ("correlation", "correlation_attainable")
    correlations = {row["temperature"]: tuple(row[name].get(label) for name in names) for row in study}
    for of in drafter:
        here = [row for row in replays if (row.temperature, row.scheme) == (of.temperature, scheme)]
        speed_ups = {row.policy: float(row.speed_up) for row in here}
        if LEARNED not in speed_ups:
            continue
        r, attainable = correlations.get(of.temperature, (None, None))
        static = max(STATIC, key=lambda family: speed_ups[family])
        rows.append(
            DrafterRow(
                run=run,
                temperature=float(of.temperature),
                overlap=float(of.overlap),
                first_choice=float(of.first_choice),
                learned=speed_ups[LEARNED],
                choice=speed_ups[CHOICE],
                best_static=speed_ups[static],
                which=static,
                oracle=speed_ups[ORACLE],
                opt_tree_r=r,
                opt_tree_r_attainable=attainable,
            )
        )
    return rows


def earlier_rows(folders: Sequence[Path], tokenizer_sha256: str) -> list[DrafterRow]:
    """`drafter_rows` of verified checkpoint folders; InputError for one that is not comparable with this run."""
    rows = []
    for path in folders:
        checkpoint = Checkpoint.from_pretrained(path)
        if checkpoint.config.tokenizer_sha256 != tokenizer_sha256:
            raise InputError(f"{path} was trained for another tokenizer; compare runs of one target")
        try:
            drafter = [DrafterStrength(**row) for row in checkpoint.metrics["drafter"]]
            replays = [ReplayRow(**row) for row in checkpoint.metrics.get("replay", ())]
            study = checkpoint.metrics.get("study") or ()
            of_run = drafter_rows(str(path), checkpoint.config.scheme, drafter, replays, study)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"the metrics of {path} cannot be compared ({first_line(error)}); train it again"
            ) from error
        if not of_run:
            raise InputError(f"{path} replayed no held-out texts; train it on traces with envelopes.texts above 0")
        rows += of_run
    return rows


def print_drafters(rows: Sequence[DrafterRow]) -> None:
    """The table of `drafter_rows`."""
    shown = [{name: "-" if value is None else value for name, value in row.as_json().items()} for row in rows]
    print_table("Drafters of one target: speed-ups in replay", shown)
