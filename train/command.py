"""The `train` command: fit the network on traces, compare it, export it, write the checkpoint folder."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from ..collect.trace import TraceFolder, TraceHeader
from ..controller.checkpoint import Checkpoint, require_replaceable
from ..controller.console import print_json, print_table
from ..controller.errors import InputError
from ..controller.files import atomic_write
from ..controller.pricing.latency import LatencyTable
from ..controller.ranges import require_between
from ..controller.trees.limits import LARGEST, TreeLimits
from .data.split import by_document
from .data.stream import SelectorData
from .evaluate.ablation import ablate, feature_groups, print_ablation
from .evaluate.drafters import drafter_strength, earlier_rows, strength_rows
from .evaluate.scores import judge
from .fit.fitted import fitted_checkpoint, write_checkpoint
from .fit.resume import FitFolder, saying_where_it_stopped
from .fit.settings import FitConfig
from .fit.trainer import fit_selector
from .plan import print_plan, training_plan
from .replay.fitted_rules import rule_fits
from .replay.recording import holds_recordings, read_recordings
from .replay.study import essentials, study
from .replay.tuning import compare_tuned, tune
from .report.document import report_page
from .report.reliability import reliability_curves

log = logging.getLogger(__name__)

# Beside the checkpoint stand its logs and, while it is written, temporary folders with longer names.
MOST_NAME_BYTES = 200


def train(
    traces: Path,
    out: Path,
    fit: FitConfig = FitConfig(),
    limits: TreeLimits = TreeLimits(ngrams=True),
    report: bool = True,
    plan: bool = False,
    ablation: bool = False,
    compare: tuple[Path, ...] = (),
) -> None:
    """Learn a selector from a trace folder and write its checkpoint folder.

    Args:
        traces: Trace folder that `collect` wrote
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        fit: How the network is fitted
        limits: The largest tree the selector may draft
        report: Study the policies on held-out texts and write OUT.logs/report.html
        plan: Write nothing, but print what the run would do and about how long its fits would take
        ablation: Fit again without each group of features, and tell what the group is worth and what it costs
        compare: Checkpoint folders of runs on the same target with other drafters, to draw beside this one
    """
    logs = _logs_folder(out)
    require_replaceable(out)
    folder = TraceFolder.open(traces)
    _require_fitting(limits, folder.header)
    drafters = earlier_rows(compare, folder.header.tokenizer_sha256)
    # Read before anything is fitted: without prices there is no replay.
    table = LatencyTable.load(traces / "latency.json") if holds_recordings(folder) else None
    if table is None:
        log.warning(
            "%s holds no envelopes, so nothing is replayed: no policy is tuned, and theta is not scaled; collect with "
            "--envelopes.texts above 0",
            traces,
        )
    started = perf_counter()
    data = SelectorData(folder, fit, max_depth=limits.max_depth)
    if plan:
        num_fits = 1 + ablation * len(feature_groups())
        planned = training_plan(folder, out, data, limits, num_fits=num_fits)
        print_plan(planned)
        print_json({"command": "train", "plan": planned})
        return
    states = FitFolder(logs)
    with saying_where_it_stopped(states):
        model, epochs = fit_selector(data, logs)
        checkpoint = fitted_checkpoint(model, data, limits, epochs)
        # Whatever happens from here on, the fitted selector is there.
        write_checkpoint(out, checkpoint)
        metrics = checkpoint.metrics
        metrics |= {**judge(model, data), "drafter": drafter_strength(folder)}
        for_rules, for_tuning, for_test = by_document(read_recordings(folder), data.split)
        checkpoint.baselines.update(rule_fits(for_rules, limits))
        numbers = None
        if table is not None and for_rules and for_tuning and for_test:
            tuned = tune(checkpoint, table, for_tuning)
            checkpoint.baselines["tuned"] = tuned.as_json()
            metrics["replay"] = compare_tuned(checkpoint, table, for_test, tuned)
            _print_replay(metrics["replay"])
            # Tuning took longest: it shall not be lost with what only looks at it.
            write_checkpoint(out, checkpoint)
            if report:
                numbers = study(checkpoint, table, for_test, tuned)
                metrics["study"] = essentials(numbers)
        if ablation:
            prices = table if "replay" in metrics else None
            metrics["ablation"] = ablate(model, checkpoint, data, logs / "ablation", table=prices, recordings=for_test)
            print_ablation(metrics["ablation"])
        if compare:
            drafters += strength_rows(str(out), folder.header.scheme, metrics)
            print_table("Drafters of one target: speed-ups in replay", drafters)
        write_checkpoint(out, checkpoint)
        if report:
            facts = _facts(checkpoint)
            curves = reliability_curves(model, data)
            html = report_page(facts, curves, numbers, ablation=metrics.get("ablation"), drafters=drafters)
            atomic_write(logs / "report.html", html.encode())
        states.forget()
    _print_scores(data, metrics)
    seconds = round(perf_counter() - started, 1)
    summary = {"command": "train", "out": str(out), "seconds": seconds, "metrics": metrics}
    print_json(summary | ({"drafters": drafters} if compare else {}))


def _logs_folder(out: Path) -> Path:
    """Where losses and states of the fit lie; InputError for a name that neither it nor a checkpoint can have."""
    if out.name in ("", ".."):
        raise InputError(f"a folder of its own becomes the checkpoint, but out is {str(out)!r}; add a name")
    if len(os.fsencode(out.name)) > MOST_NAME_BYTES:
        raise InputError(f"the checkpoint folder's name is longer than {MOST_NAME_BYTES} bytes; choose a shorter one")
    logs = out.with_name(f"{out.name}.logs")
    if "::" in str(logs.resolve()):
        raise InputError(
            f"{logs.resolve()} holds '::', which Lightning reads as a chain of addresses; rename the folder"
        )
    return logs


def _require_fitting(limits: TreeLimits, header: TraceHeader) -> None:
    """InputError where the traces cannot teach a selector of these limits, or no build would read it."""
    if limits.width != header.width or not limits.ngrams:
        raise InputError(
            f"the traces hold {header.width} candidates of the drafter per position and the n-grams' one, but "
            f"limits.width is {limits.width} and limits.ngrams {limits.ngrams}; set them alike or collect again"
        )
    for name in ("max_depth", "frontier", "budget"):
        require_between(f"limits.{name}", getattr(limits, name), 1, getattr(LARGEST, name))


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    config, metrics = checkpoint.config, checkpoint.metrics
    return {
        "Pair": config.pair,
        "Scheme": config.scheme,
        "Positions": metrics["positions"],
        "Epochs": metrics["epochs"],
    }


def _print_scores(data: SelectorData, metrics: Mapping[str, Any]) -> None:
    edges, _ = data.test
    rows = [{"score": name, **values} for name, values in metrics["scores"].items()]
    print_table(f"Held-out reachable edges ({len(edges.label)} of {len(set(edges.document))} documents)", rows)


def _print_replay(rows: list[dict[str, Any]]) -> None:
    names = ("policy", "scheme", "settings", "speed_up", "block_efficiency", "nodes_per_step")
    for temperature in sorted({row["temperature"] for row in rows}):
        shown = [{name: row[name] for name in names} for row in rows if row["temperature"] == temperature]
        print_table(f"Replay at T = {temperature:g}: tuned policies on held-out texts, priced by the table", shown)
