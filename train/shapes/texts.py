"""Recorded texts with the labels of shapes: what is known at every root, and what every tree would bring there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...collect.trace import TraceFolder
from ...controller.context import stack_conditions
from ...controller.learned.shape_features import shape_features
from ...controller.learned.shape_menu import BLOCK, HYBRID_NAIVE, NAIVE, SHAPED_VERIFIERS, TRAVERSAL, TREE_VERIFIERS
from ...controller.plans.setting import DECIMALS
from ...controller.trees.delayed import BRANCHED, CHAINS
from ...controller.trees.tree import Array
from ..data.positions import document_number, numbered_names, text_histories
from .labels import ShapeLabels


@dataclass(frozen=True)
class ShapeText:
    """One text of n generated tokens; entry i is of the root before token i."""

    document: int  # see `positions.document_number`
    temperature: float
    top_p: float
    positions: Array  # [n] of the roots in the text
    features: Array  # [n, F]
    labels: ShapeLabels

    @property
    def kind(self) -> tuple[float, float]:
        """Of its sampling: (temperature, top-p)."""
        return round(self.temperature, DECIMALS), round(self.top_p, DECIMALS)


def read_texts(folders: Iterable[TraceFolder]) -> list[ShapeText]:
    """All texts that were sampled; InputError where a folder holds no such labels."""
    texts: list[ShapeText] = []
    for folder in folders:
        folder.header.schema("shapes")
        for number in range(len(folder.shards)):
            sides = folder.shard("sides", number) if "sides" in folder.header.groups else None
            texts += _of_tables(folder.shard("shapes", number), sides)
    return texts


def _of_tables(table: pa.Table, sides: pa.Table | None) -> list[ShapeText]:
    """Rows of both tables are of the same tokens in the same order."""
    text, _ = numbered_names(table["text_id"])
    order = np.lexsort((table["position"].to_numpy(), text))
    table, text = table.take(order), text[order]
    landing = None if sides is None else np.stack(sides["landing"].to_numpy())[order]
    lists = ("agreement", *(name.replace("-", "_") for name in TREE_VERIFIERS))
    columns = {name: np.stack(table[name].to_numpy()) if table.num_rows else np.zeros((0, 1)) for name in lists}
    columns |= {name: table[name].to_numpy() for name in ("temperature", "top_p", "position", "ratio")}
    traversal = np.full((table.num_rows, len(BRANCHED)), np.nan)
    for row, lengths in enumerate(table["traversal"].to_numpy()):
        if len(lengths):
            traversal[row] = lengths
    history = text_histories(text, table["target_log_prob"].to_numpy(), table["target_entropy"].to_numpy())
    roots = columns["position"] - 1
    conditions = stack_conditions(columns["temperature"], columns["top_p"], history)
    features = shape_features(columns["agreement"], conditions, roots)
    documents = table["document"].to_pylist()
    return [
        ShapeText(
            document=document_number(documents[rows[0]]),
            temperature=float(columns["temperature"][rows[0]]),
            top_p=float(columns["top_p"][rows[0]]),
            positions=roots[rows],
            features=features[rows],
            labels=ShapeLabels.of(
                {name: values[rows] for name, values in columns.items()},
                None if landing is None else landing[rows],
                traversal[rows],
            ),
        )
        for rows in np.split(np.arange(len(text)), np.nonzero(np.diff(text))[0] + 1)
        if len(rows)
    ]


def verifiers_of(texts: Sequence[ShapeText]) -> tuple[str, ...]:
    """Whose labels the texts hold: Traversal's only where trees were drafted."""
    held = {
        TRAVERSAL: any(np.isfinite(text.labels.traversal).any() for text in texts),
        HYBRID_NAIVE: all(text.labels.landing is not None for text in texts),
    }
    return tuple(name for name in SHAPED_VERIFIERS if held.get(name, True))


def answers(text: ShapeText, verifiers: Sequence[str]) -> Array:
    """[n, answers] float32 what a network for `verifiers` is to answer, in the order of `shape_menu`; NaN where the
    text ends too soon to tell, or no trees were drafted."""
    chains = [text.labels.lengths(name) for name in (NAIVE, BLOCK)]
    trees = [text.labels.lengths(name)[:, len(CHAINS) :] for name in verifiers[2:]]
    return np.concatenate((*chains, *trees), axis=1).astype(np.float32)
