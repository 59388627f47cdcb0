"""How strong a drafter is, and what that makes of every policy: runs on one target with several drafters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...collect.trace import TraceFolder, rank_column
from ...controller.checkpoint import Checkpoint
from ...controller.contract import FIXED
from ...controller.errors import InputError, first_line

STATIC = ("chain", "static", "static, thresholds", "Sequoia")
CHOICE = "choice, confidence"


def drafter_strength(folder: TraceFolder) -> list[dict[str, Any]]:
    """By temperature: the mean overlap with the target's distribution, and how often the drafter's first choice under
    the scheme of the traces is taken, and under the fixed one."""
    sums: dict[float, np.ndarray] = {}
    ranks = [rank_column(scheme) for scheme in (folder.header.scheme, FIXED.name)]
    names = list(dict.fromkeys(("temperature", "overlap", *ranks)))
    for batch in folder.iterate("positions", names):
        columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in names}
        temperatures = columns["temperature"].astype(np.float64).round(3)
        rows = np.stack([np.ones(len(temperatures)), columns["overlap"], *(columns[name] == 0 for name in ranks)])
        for temperature in np.unique(temperatures).tolist():
            sums[temperature] = sums.get(temperature, 0.0) + rows[:, temperatures == temperature].sum(axis=1)
    names = ("overlap", "first_choice", "first_choice_fixed")
    return [
        {"temperature": temperature, "positions": int(count)}
        | {name: round(float(value / count), 4) for name, value in zip(names, values, strict=True)}
        for temperature, (count, *values) in sorted(sums.items())
    ]


def strength_rows(run: str, scheme: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per temperature at which the learned policy of a training run was replayed, by that run's `metrics`."""
    rows = []
    for drafter in metrics["drafter"]:
        temperature = drafter["temperature"]
        replays = [
            row for row in metrics.get("replay", ()) if (row["temperature"], row["scheme"]) == (temperature, scheme)
        ]
        speed_ups = {row["policy"]: float(row["speed_up"]) for row in replays}
        if "learned" not in speed_ups:
            continue
        static = max(STATIC, key=lambda family: speed_ups[family])
        rows.append(
            {
                "run": run,
                "temperature": float(temperature),
                "overlap": float(drafter["overlap"]),
                "first_choice": float(drafter["first_choice"]),
                "learned": speed_ups["learned"],
                CHOICE: speed_ups[CHOICE],
                "best static": speed_ups[static],
                "which": static,
                "oracle": speed_ups["oracle"],
            }
        )
    return rows


def earlier_rows(folders: Sequence[Path], tokenizer_sha256: str) -> list[dict[str, Any]]:
    """`strength_rows` of verified checkpoint folders; InputError for one that cannot stand beside this run."""
    rows = []
    for path in folders:
        checkpoint = Checkpoint.from_pretrained(path)
        if checkpoint.config.tokenizer_sha256 != tokenizer_sha256:
            raise InputError(f"{path} was trained for another tokenizer; compare runs of one target")
        try:
            of_run = strength_rows(str(path), checkpoint.config.scheme, checkpoint.metrics)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"the metrics of {path} cannot be compared ({first_line(error)}); train it again"
            ) from error
        if not of_run:
            raise InputError(f"{path} replayed no held-out texts; train it on traces with envelopes.texts above 0")
        rows += of_run
    return rows
