"""The `train` command: fit the network on traces, compare it, export it, write the checkpoint folder."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.numpy import save as save_safetensors

from ..collect.trace import TraceFolder
from ..collect.trace.files import write_synced
from ..controller.checkpoint import Checkpoint, SelectorConfig, require_replaceable, save_checkpoint
from ..controller.console import print_json, print_table
from ..controller.errors import InputError
from ..controller.features import FEATURES
from ..controller.latency import LatencyTable
from ..controller.selector import TreeLimits
from .ablation import ablate, feature_groups, print_ablation
from .baselines import rank_tables
from .card import model_card
from .drafters import drafter_strength, earlier_rows, strength_rows
from .export import export_onnx, golden_vectors
from .judge import judge
from .plan import print_plan, training_plan
from .recording import read_recordings
from .report.document import report_page
from .report.reliability import reliability_curves
from .report.study import essentials, study
from .rules import rule_fits
from .split import TRAINING, by_document
from .stream import SelectorData
from .trainer import FitConfig, fit_selector
from .tuning import compare_tuned, tune

NUM_GOLDEN = 32


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
    require_replaceable(out)
    folder = TraceFolder.open(traces)
    if limits.width != folder.header.width or not limits.ngrams:
        raise InputError(
            f"the traces hold {folder.header.width} candidates of the drafter per position and the n-grams' one, but "
            f"limits.width is {limits.width} and limits.ngrams {limits.ngrams}; set them alike or collect again"
        )
    drafters = earlier_rows(compare, folder.header.tokenizer_sha256)
    started = perf_counter()
    data = SelectorData(
        folder,
        max_depth=limits.max_depth,
        validation_share=fit.validation_share,
        test_share=fit.test_share,
        batch_size=fit.batch_size,
        share=fit.row_share,
        seed=fit.seed,
    )
    if plan:
        num_fits = 1 + ablation * len(feature_groups())
        planned = training_plan(folder, out, data, fit, limits, num_fits=num_fits)
        print_plan(planned)
        print_json({"command": "train", "plan": planned})
        return
    logs = out.with_name(f"{out.name}.logs")
    model, epochs = fit_selector(data, fit, folder.header.num_candidates, logs)
    edges, _ = data.test
    metrics: dict[str, Any] = {**judge(model, data), "epochs": epochs, "training_edges": int(data.num_edges[TRAINING])}
    metrics |= {"positions": data.num_positions, "drafter": drafter_strength(folder)}
    graph = export_onnx(model, len(FEATURES))
    golden = golden_vectors(model, graph, edges.features[:NUM_GOLDEN])
    for_rules, for_tuning, for_test = by_document(read_recordings(folder), data.split)
    baselines: dict[str, Any] = {"rank_probs": rank_tables(folder), **rule_fits(for_rules, limits)}
    config = SelectorConfig(
        pair=folder.header.pair,
        law=folder.header.law,
        tokenizer_sha256=folder.header.tokenizer_sha256,
        limits=limits,
        provenance=_provenance(folder, fit),
    )
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    files = {
        "model.safetensors": save_safetensors(weights),
        "model.onnx": graph,
        "golden.safetensors": save_safetensors(golden),
    }
    numbers = table = None
    checkpoint = Checkpoint(config, files, weights, golden, 0.0, baselines, metrics, card="")
    if for_rules and for_tuning and for_test:
        table = LatencyTable.load(traces / "latency.json")
        tuned = tune(checkpoint, table, for_tuning)
        baselines["tuned"] = tuned.as_json()
        metrics["replay"] = compare_tuned(checkpoint, table, for_test, tuned)
        _print_replay(metrics["replay"])
        _save(out, checkpoint)  # tuning took longest: it shall not be lost with what only looks at it
        if report:
            numbers = study(checkpoint, table, for_test, tuned)
            metrics["study"] = essentials(numbers)
    if ablation:
        metrics["ablation"] = ablate(model, checkpoint, data, fit, logs / "ablation", table=table, recordings=for_test)
        print_ablation(metrics["ablation"])
    if compare:
        drafters += strength_rows(str(out), config.law, metrics)
        print_table("Drafters of one target: speed-ups in replay", drafters)
    _save(out, checkpoint)
    if report:
        facts = {"Pair": config.pair, "Law": config.law, "Positions": data.num_positions, "Epochs": epochs}
        curves = reliability_curves(model, data)
        html = report_page(facts, curves, numbers, ablation=metrics.get("ablation"), drafters=drafters)
        write_synced(logs / "report.html", html.encode())
    rows = [{"score": name, **values} for name, values in metrics["scores"].items()]
    print_table(f"Held-out reachable edges ({len(edges.label)} of {len(set(edges.document))} documents)", rows)
    summary = {"command": "train", "out": str(out), "seconds": round(perf_counter() - started, 1), "metrics": metrics}
    print_json(summary | ({"drafters": drafters} if compare else {}))


def _save(out: Path, checkpoint: Checkpoint) -> None:
    documents = {"baselines.json": checkpoint.baselines, "metrics.json": checkpoint.metrics}
    files = checkpoint.files | {name: json.dumps(document, indent=1).encode() for name, document in documents.items()}
    save_checkpoint(out, checkpoint.config, files, model_card(checkpoint.config, checkpoint.metrics))


def _print_replay(rows: list[dict[str, Any]]) -> None:
    names = ("policy", "law", "settings", "speed_up", "block_efficiency", "nodes_per_step")
    for temperature in sorted({row["temperature"] for row in rows}):
        shown = [{name: row[name] for name in names} for row in rows if row["temperature"] == temperature]
        print_table(f"Replay at T = {temperature:g}: tuned policies on held-out texts, priced by the table", shown)


def _provenance(folder: TraceFolder, fit: FitConfig) -> dict[str, Any]:
    return {
        "traces": folder.header.command,
        "trace_shards": [shard["sha256"] for shard in folder.shards],
        "fit": asdict(fit),
        "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
    }
