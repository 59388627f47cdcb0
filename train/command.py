"""The `train` command: fit the network on traces, tune and compare policies, write the checkpoint folder."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from ..collect.trace import TraceFolder, TraceHeader
from ..controller.checkpoint import SelectorBundle, require_replaceable
from ..controller.console import print_json, print_table
from ..controller.errors import InputError
from ..controller.files import atomic_write
from ..controller.plans.setting import temperature_title
from ..controller.pricing.latency import LatencyTable
from ..controller.ranges import require_between
from ..controller.trees.limits import LARGEST, TreeLimits
from .data.split import TRAINING, by_document
from .data.stream import SelectorData
from .evaluate.ablation import ablate, feature_groups, print_ablation
from .evaluate.drafters import drafter_rows, drafter_strength, earlier_rows, print_drafters
from .evaluate.reliability import reliability_curves
from .evaluate.scores import evaluate
from .fit.fitted import fitted_bundle, with_baselines
from .fit.resume import FitFolder, reporting_interruption
from .fit.settings import FitConfig
from .fit.trainer import fit_selector
from .metrics import Metrics
from .plan import print_plan, training_plan
from .replay.fitted_rules import fit_rules
from .replay.recording import holds_recordings, read_recordings
from .replay.study import study
from .replay.tuning import ReplayRow, compare_tuned, tune
from .report.card import model_card
from .report.document import report_page

log = logging.getLogger(__name__)

# The logs beside the checkpoint, and temporary folders while it is written, have longer names; file systems allow 255.
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
    latency: Path | None = None,
) -> None:
    """Learn a selector from a trace folder and write its checkpoint folder.

    Args:
        traces: Trace folder that `collect` wrote
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        fit: How the network is fitted
        limits: The largest tree the selector may draft
        report: Study the policies on held-out texts and write OUT.logs/report.html
        plan: Write nothing, but print what the run would do and about how long its fits would take
        ablation: Fit again without each group of features, to measure what the group is worth and what it costs
        compare: Checkpoint folders of runs on the same target with other drafters, to compare with this one
        latency: Latency table to replay by, one of configs/latency/ for example, so that policies are tuned for that
            machine; the traces' own where none is given
    """
    logs = logs_folder(out)
    require_replaceable(out)
    folder = TraceFolder.open(traces)
    _require_fitting(limits, folder.header)
    drafters = earlier_rows(compare, folder.header.tokenizer_sha256)
    # Read before anything is fitted: without prices there is no replay.
    table = LatencyTable.load(latency or traces / "latency.json") if holds_recordings(folder) else None
    if table is None:
        if latency is not None:
            raise InputError(
                f"latency is what replay goes by, but {traces} holds no envelopes to replay; leave it out, or collect "
                "with --envelopes.texts above 0"
            )
        log.warning(
            "%s holds no envelopes, so nothing is replayed: no policy is tuned, and theta is not scaled; collect with "
            "--envelopes.texts above 0",
            traces,
        )
    started = perf_counter()
    data = SelectorData(folder, fit, max_depth=limits.max_depth)
    if plan:
        planned = training_plan(folder, out, data, limits, table, num_fits=1 + ablation * len(feature_groups()))
        print_plan(planned)
        print_json({"command": "train", "plan": planned})
        return
    states = FitFolder(logs)
    with reporting_interruption(states):
        model, epochs = fit_selector(data, logs)
        selector = fitted_bundle(model, data, limits)
        metrics = Metrics(epochs, int(data.num_edges[TRAINING]), data.num_positions)
        # Saved here and after tuning too: a run that is stopped later has not lost what took hours.
        _save(out, selector, metrics)
        metrics = replace(metrics, evaluation=evaluate(model, data), drafter=drafter_strength(folder))
        for_rules, for_tuning, for_test = by_document(read_recordings(folder), data.split)
        selector = with_baselines(selector, **fit_rules(for_rules, limits)._asdict())
        studied = None
        if table is not None and for_rules and for_tuning and for_test:
            selector = with_baselines(selector, tuned=tune(selector, table, for_tuning))
            metrics = replace(metrics, replay=compare_tuned(selector, table, for_test))
            _save(out, selector, metrics)
            _print_replay(metrics.replay or ())
            if report:
                studied = study(selector, table, for_test)
                metrics = replace(metrics, study=[each.summary() for each in studied.temperatures])
        if ablation:
            prices = table if metrics.replay is not None else None
            ablated = ablate(model, selector, data, logs / "ablation", table=prices, recordings=for_test)
            metrics = replace(metrics, ablation=ablated)
            print_ablation(ablated)
        if compare:
            of_run = metrics.drafter or (), metrics.replay or (), metrics.study or ()
            drafters += drafter_rows(str(out), folder.header.scheme, *of_run)
            print_drafters(drafters)
        _save(out, selector, metrics)
        if report:
            curves = reliability_curves(model, data)
            config = selector.config
            facts = {"Pair": config.pair, "Scheme": config.scheme, "Positions": data.num_positions, "Epochs": epochs}
            html = report_page(facts, curves, studied, ablation=metrics.ablation, drafters=drafters)
            atomic_write(logs / "report.html", html.encode())
        states.forget()
    _print_scores(data, metrics)
    seconds = round(perf_counter() - started, 1)
    summary = {"command": "train", "out": str(out), "seconds": seconds, "metrics": metrics.as_json()}
    print_json(summary | ({"drafters": [row.as_json() for row in drafters]} if compare else {}))


def _save(out: Path, selector: SelectorBundle, metrics: Metrics) -> None:
    """Write the checkpoint folder, in place of an earlier one."""
    replace(selector, metrics=metrics.as_json()).save(out, model_card(selector.config, metrics))


def logs_folder(out: Path) -> Path:
    """The folder of the fit's losses and states; InputError for a name that cannot be used."""
    if out.name in ("", ".."):
        raise InputError(f"the checkpoint needs a folder of its own, but out is {str(out)!r}; add a name")
    if len(os.fsencode(out.name)) > MOST_NAME_BYTES:
        raise InputError(f"the checkpoint folder's name is longer than {MOST_NAME_BYTES} bytes; choose a shorter one")
    logs = out.with_name(f"{out.name}.logs")
    if "::" in str(logs.resolve()):
        raise InputError(
            f"{logs.resolve()} holds '::', which Lightning reads as a chain of addresses; rename the folder"
        )
    return logs


def _require_fitting(limits: TreeLimits, header: TraceHeader) -> None:
    """InputError where the traces do not fit these limits, or the limits exceed those of a checkpoint."""
    if limits.width != header.width or not limits.ngrams:
        raise InputError(
            f"the traces hold {header.width} candidates of the drafter per position and the n-grams' one, but "
            f"limits.width is {limits.width} and limits.ngrams {limits.ngrams}; set them alike or collect again"
        )
    for name in ("max_depth", "frontier", "budget"):
        require_between(f"limits.{name}", getattr(limits, name), 1, getattr(LARGEST, name))


def _print_scores(data: SelectorData, metrics: Metrics) -> None:
    edges, _ = data.test
    assert metrics.evaluation is not None
    rows = [{"score": name, **asdict(scores)} for name, scores in metrics.evaluation.scores.items()]
    print_table(f"Held-out reachable edges ({len(edges.label)} of {len(set(edges.document))} documents)", rows)


def _print_replay(rows: Sequence[ReplayRow]) -> None:
    names = ("policy", "scheme", "settings", "speed_up", "block_efficiency", "nodes_per_step")
    for temperature in sorted({row.temperature for row in rows}):
        shown = [{name: getattr(row, name) for name in names} for row in rows if row.temperature == temperature]
        title = f"Replay at {temperature_title(temperature)}: tuned policies on held-out texts, priced by the table"
        print_table(title, shown)
