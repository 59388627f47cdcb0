"""The `train-shapes` command: fit, tune, compare, save."""

from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ...collect.trace import TraceFolder
from ...controller.checkpoint import ShapesCheckpoint, ShapesConfig, require_replaceable
from ...controller.console import print_json, print_table
from ...controller.errors import InputError
from ...controller.learned.shape_features import SHAPE_FEATURES
from ...controller.learned.shape_menu import LENGTHS_NAME, TRAVERSAL
from ...controller.pricing.latency import LatencyTable
from ..command import logs_folder
from ..data.split import SIDES, DocumentSplit
from ..fit.export import export_onnx, golden_vectors
from .evaluate import ShapeRow, compare, price_texts, tune_speed_ups
from .fit import fit_shapes
from .settings import ShapeFitConfig
from .texts import ShapeText, read_texts, verifiers_of
from .traversal import compare_traversal

NUM_GOLDEN = 32


def train_shapes(
    traces: tuple[Path, ...],
    out: Path,
    fit: ShapeFitConfig = ShapeFitConfig(),
    latency: Path | None = None,
) -> None:
    """Learn to choose the (K, L1, L2) of sampled trees from traces that `collect --shapes.labels true` wrote, and
    write a checkpoint folder.

    Args:
        traces: Trace folders of one pair, of different samplings for example
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        fit: How the network is fitted
        latency: Latency table to tune and compare by; that of the first folder where none is given
    """
    started = perf_counter()
    logs = logs_folder(out)
    require_replaceable(out)
    folders = _open(traces)
    table = LatencyTable.load(latency or traces[0] / "latency.json")
    texts = read_texts(folders)
    sides = _split(texts, fit)
    verifiers = verifiers_of(texts)
    logs.mkdir(parents=True, exist_ok=True)
    model, epochs = fit_shapes(sides["training"], sides["validation"], verifiers, fit, logs)
    validation, test = (price_texts(model, sides[side], verifiers, table) for side in ("validation", "test"))
    speed_ups = tune_speed_ups(validation, verifiers)
    rows = compare(validation, test, speed_ups)
    metrics: dict[str, Any] = {
        "epochs": epochs,
        "texts": {side: len(of_side) for side, of_side in sides.items()},
        "programme": [asdict(row) for row in rows],
    }
    if TRAVERSAL in verifiers:
        compared = sides["validation"], sides["test"]
        by_labels = compare_traversal(model, *compared, verifiers, table, speed_ups)
        metrics["traversal"] = [asdict(row) for row in by_labels]
    config, graph = _config(folders, verifiers, fit), export_onnx(model, len(SHAPE_FEATURES), [LENGTHS_NAME])
    checkpoint = ShapesCheckpoint(
        config=config,
        graph=graph,
        weights={name: value.numpy() for name, value in model.state_dict().items()},
        golden=golden_vectors(model, graph, sides["test"][0].features[:NUM_GOLDEN], [LENGTHS_NAME]),
        speed_ups=speed_ups,
        metrics=metrics,
        card=shapes_card(config, rows),
    )
    checkpoint.save_pretrained(out)
    _print_rows(rows)
    seconds = round(perf_counter() - started, 1)
    print_json({"command": "train-shapes", "out": str(out), "seconds": seconds, "metrics": metrics})


def _open(traces: tuple[Path, ...]) -> list[TraceFolder]:
    """InputError where there are none, or where they are of different models."""
    if not traces:
        raise InputError("traces names nothing; give at least one trace folder")
    folders = [TraceFolder.open(path) for path in traces]
    models = Counter((folder.header.target_sha256, folder.header.drafter_sha256) for folder in folders)
    if len(models) > 1:
        raise InputError(f"the {len(folders)} trace folders are of {len(models)} pairs of models; give those of one")
    return folders


def _split(texts: list[ShapeText], fit: ShapeFitConfig) -> dict[str, list[ShapeText]]:
    """By side; InputError where one has no texts."""
    documents = np.array([text.document for text in texts])
    split = DocumentSplit.of(set(documents.tolist()), fit.validation_share, fit.test_share)
    numbers = split.sides(documents)
    sides = {
        side: [text for text, on in zip(texts, numbers.tolist(), strict=True) if SIDES[on] == side] for side in SIDES
    }
    if not all(sides.values()):
        raise InputError("the traces have too few documents to train, validate and test on; collect on more documents")
    return sides


def _config(folders: list[TraceFolder], verifiers: tuple[str, ...], fit: ShapeFitConfig) -> ShapesConfig:
    header = folders[0].header
    return ShapesConfig(
        pair=header.pair,
        tokenizer_sha256=header.tokenizer_sha256,
        verifiers=verifiers,
        provenance={
            "traces": [folder.header.command for folder in folders],
            "trace_shards": [shard.sha256 for folder in folders for shard in folder.shards],
            "target_sha256": header.target_sha256,
            "drafter_sha256": header.drafter_sha256,
            "dtype": header.dtype,
            "fit": asdict(fit),
            "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
        },
    )


def _cells(row: ShapeRow) -> dict[str, object]:
    return {
        "verifier": row.verifier,
        "T": row.temperature,
        "top-p": row.top_p,
        "best fixed K, L1, L2": ", ".join(map(str, row.trees["fixed"])),
        **{f"{name}, x plain": f"{row.x_plain[name].value:.3f}" for name in ("fixed", "learned")},
        "learned over fixed [95 %]": "{:.3f} [{:.3f}, {:.3f}]".format(*row.learned_over["fixed"]),
        "bound, x plain": f"{row.bound_x_plain:.3f}",
    }


def _print_rows(rows: list[ShapeRow]) -> None:
    if rows:
        title = "Held-out texts by the exact programme, priced by the table"
        print_table(title, [_cells(row) for row in rows])


def shapes_card(config: ShapesConfig, rows: list[ShapeRow]) -> str:
    """`README.md` of the checkpoint folder."""
    lines = [
        "# Selector of shapes for sampled draft trees",
        "",
        f"Chooses K, L1 and L2 of every step's sampled tree for the pair `{config.pair}`, for the verifiers",
        f"{', '.join(config.verifiers)}. Use it with",
        "`treewright generate --speculation.selector FOLDER --speculation.verifier VERIFIER`.",
    ]
    if rows:
        cells = [_cells(row) for row in rows]
        lines += ["", "| " + " | ".join(cells[0]) + " |", "|" + "---|" * len(cells[0])]
        lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in cells]
    return "\n".join(lines) + "\n"
