"""What a training run would do: `treewright train --plan true` counts and times, and writes nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from ..collect.trace import TraceFolder
from ..controller.checkpoint import Baselines, SelectorBundle, SelectorConfig
from ..controller.console import print_table
from ..controller.lightning_run import new_trainer, run
from ..controller.plans.grids import policy_families
from ..controller.plans.setting import rounded
from ..controller.pricing.latency import LatencyTable
from ..controller.scorers.logistic import LogisticRule
from ..controller.trees.limits import TreeLimits
from ..controller.trees.tree import Array
from .data.positions import document_number
from .data.split import SIDES, by_document, by_setting
from .data.stream import SelectorData
from .evaluate.baselines import rank_tables
from .fit.trainer import new_module
from .replay.recording import planned_recordings
from .replay.tuning import MOST_TEXTS

# Training batches that the estimate is made from.
NUM_TIMED = 12
# The grids are only counted, so no fit is needed.
UNFITTED = LogisticRule((0.0, 0.0, 0.0), 0.0)


def training_plan(
    folder: TraceFolder, out: Path, data: SelectorData, limits: TreeLimits, table: LatencyTable | None, *, num_fits: int
) -> dict[str, Any]:
    """A JSON document. `num_fits` networks are fitted one after the other; `data` has read the whole folder once.
    Without a `table` nothing is replayed."""
    names = set(folder.read("texts", ["document"])["document"].to_pylist())
    numbers = np.array([document_number(name) for name in names])
    fit_seconds = num_fits * data.fit.max_epochs * measure_epoch_seconds(data)
    return {
        "traces": str(folder.path),
        "out": str(out),
        "out_exists": out.exists(),
        "positions": data.num_positions,
        **_by_side("documents", np.bincount(data.split.sides(numbers), minlength=len(SIDES))),
        **_by_side("edges", data.num_edges),
        "texts": _texts(folder),
        "fits": num_fits,
        "batches_per_epoch": data.num_batches,
        "steps_at_most": data.num_batches * data.fit.max_epochs,
        "about_fit_seconds_at_most": round(fit_seconds, 1),
        "replays": [] if table is None else _replays(folder, data, limits, table),
    }


def print_plan(plan: Mapping[str, Any]) -> None:
    """The plan as tables, single values first."""
    facts = {name: value for name, value in plan.items() if not isinstance(value, list)}
    print_table(
        "A training run would do this; nothing is written",
        [{"what": name.replace("_", " "), "planned": str(value)} for name, value in facts.items()],
    )
    print_table("Texts of the traces", plan["texts"])
    if plan["replays"]:
        print_table("Replays that tune and compare the policies", plan["replays"])


def _by_side(what: str, counts: Array) -> dict[str, int]:
    return {f"{side}_{what}": count for side, count in zip(SIDES, counts.tolist(), strict=True)}


def _texts(folder: TraceFolder) -> list[dict[str, Any]]:
    columns = folder.read("texts", ["domain", "temperature"]).to_pydict().values()
    counts = Counter((domain, rounded(temperature)) for domain, temperature in zip(*columns, strict=True))
    return [
        {"domain": domain, "temperature": temperature, "texts": count}
        for (domain, temperature), count in sorted(counts.items())
    ]


def _replays(folder: TraceFolder, data: SelectorData, limits: TreeLimits, prices: LatencyTable) -> list[dict[str, Any]]:
    """One row per setting that policies are tuned for."""
    for_rules, for_tuning, for_test = by_document(planned_recordings(folder), data.split)
    if not (for_rules and for_tuning and for_test):
        return []
    header = folder.header
    rules = dict.fromkeys(for_rules, UNFITTED)
    config = SelectorConfig(header.pair, header.scheme, header.tokenizer_sha256, limits, {})
    unfitted = SelectorBundle(config, b"", {}, {}, Baselines(rank_tables(folder), rules, rules), {})
    compared = by_setting(for_test, header.scheme)
    rows = []
    for setting, texts in by_setting(for_tuning, header.scheme).items():
        families = policy_families(unfitted, prices, setting)
        tuned_on, compared_on = min(len(texts), MOST_TEXTS), len(compared.get(setting, ()))
        settings = sum(len(family.grid) for family in families)
        rows.append(
            {
                **asdict(setting),
                "families": len(families),
                "settings": settings,
                "tuned_texts": tuned_on,
                "compared_texts": compared_on,
                "replays": settings * tuned_on + len(families) * compared_on,
            }
        )
    return rows


def measure_epoch_seconds(data: SelectorData) -> float:
    """About how long an epoch takes here, from the first batches of a fit that is thrown away."""
    clock = Clock()
    trainer = new_trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=NUM_TIMED,
        num_sanity_val_steps=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
    )
    run(trainer, new_module(data), data)
    return data.survey_seconds + data.num_batches * median(clock.batch_seconds) + clock.validation_seconds


class Clock(Callback):
    """Measures how long each training batch and the last validation take."""

    def __init__(self) -> None:
        self.batch_seconds: list[float] = []
        self.validation_seconds = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch_start = perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batch_seconds.append(perf_counter() - self._batch_start)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validation_start = perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.validation_seconds = perf_counter() - self._validation_start
