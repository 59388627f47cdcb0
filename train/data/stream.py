"""The Lightning data module: rows streamed from sealed shards, so that memory does not grow with the traces."""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from time import perf_counter
from typing import Any, Self

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from ...collect.trace import TraceFolder
from ...controller.errors import InputError
from ...controller.trees.tree import Array
from ..fit.module import Batch
from ..fit.settings import FitConfig
from .positions import document_number
from .rows import SHARDS_AT_ONCE, Rows, read_rows
from .split import SIDES, TRAINING, DocumentSplit

# Rows of a side kept in memory: the standard error of a mean loss is then below 0.3 % of its standard deviation.
MOST_SAMPLED = 200_000


class RowStream(IterableDataset[Batch]):
    """One epoch of training batches: shards in random order, the rows of a few shards mixed, a share of them sampled.

    The rows of a position's noise draws and depths are correlated, so an epoch samples a share of them. Greedy
    positions have a single draw; they are sampled more often, so that all positions have the same weight.
    """

    def __init__(self, data: "SelectorData", epoch: int):
        self._data, self._epoch = data, epoch

    def __iter__(self) -> Iterator[Batch]:
        data = self._data
        generator = np.random.default_rng((data.fit.seed, self._epoch))
        order = generator.permutation(len(data.folder.shards))
        for edges, nodes in read_rows(data.folder, data.max_depth, order):
            kept = [rows.select(data.split.sides(rows.document) == TRAINING) for rows in (edges, nodes)]
            edges, nodes = (_sampled(rows, data.fit.row_share, generator) for rows in kept)
            yield from batches(edges, nodes, data.fit.batch_size)


class SelectorData(lightning.LightningDataModule):
    """Batches of reachable edges and nodes, and a sample of each side of the split by documents."""

    def __init__(self, folder: TraceFolder, fit: FitConfig, *, max_depth: int):
        super().__init__()
        self.folder, self.fit, self.max_depth = folder, fit, max_depth
        names = set(folder.read("texts", ["document"])["document"].to_pylist())
        self.split = DocumentSplit.of(map(document_number, names), fit.validation_share, fit.test_share)
        self.held: tuple[int, ...] = ()  # feature columns replaced by their means
        self.num_edges = np.zeros(len(SIDES), dtype=np.int64)
        self.edges_per_epoch = 0.0  # expected number: every epoch samples its rows
        self.num_positions = 0  # of all documents, once per noise draw
        started = perf_counter()
        self.training, self.validation, self.test = self._survey()
        self.survey_seconds = perf_counter() - started  # of one pass over all shards, as in every epoch

    def _survey(self) -> list[tuple[Rows, Rows]]:
        """Samples of the rows of each side, (edges, nodes), from one pass over all shards."""
        generator = np.random.default_rng(self.fit.seed)
        samples: dict[tuple[int, int], Rows] = {}
        for pair in read_rows(self.folder, self.max_depth, np.arange(len(self.folder.shards))):
            sides = [self.split.sides(rows.document) for rows in pair]
            self.edges_per_epoch += float(_odds(pair[0], self.fit.row_share)[sides[0] == TRAINING].sum())
            self.num_edges += np.bincount(sides[0], minlength=len(SIDES))
            self.num_positions += int((pair[1].depth == 0).sum())
            for kind, rows in enumerate(pair):
                for side in range(len(SIDES)):
                    parts = [rows.select(sides[kind] == side)]
                    if (side, kind) in samples:
                        parts.append(samples[side, kind])
                    joined = Rows.joined(parts)
                    keep = min(1.0, MOST_SAMPLED / max(1, len(joined.label)))
                    samples[side, kind] = _sample(joined, keep, generator)
        if not self.num_edges.all():
            raise InputError(
                f"{self.folder.path} has no documents to train on, none to validate on or none to test on; "
                "collect on more documents"
            )
        return [(samples[side, 0], samples[side, 1]) for side in range(len(SIDES))]

    def without(self, columns: Sequence[int]) -> Self:
        """The same rows, to be fitted with these feature columns held at their means."""
        other = copy(self)
        other.held = tuple(columns)
        return other

    @property
    def num_batches(self) -> int:
        """Training batches of one epoch, estimated; the learning-rate schedule is based on it."""
        return max(1, int(self.edges_per_epoch / self.fit.batch_size))

    @property
    def num_extra_batches(self) -> int:
        """Upper bound of further batches in an epoch: rows are cut into whole batches a few shards at a time."""
        return max(16, math.ceil(len(self.folder.shards) / SHARDS_AT_ONCE))

    def train_dataloader(self) -> DataLoader[Batch]:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return DataLoader(RowStream(self, epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        same_every_epoch: Any = list(batches(*self.validation, 8 * self.fit.batch_size))
        return DataLoader(same_every_epoch, batch_size=None)


def batches(edges: Rows, nodes: Rows, batch_size: int) -> Iterator[Batch]:
    """Cut shuffled rows into batches of about `batch_size` edges, families whole, with as large a share of the
    nodes; every batch holds both, unless there are none at all."""
    count = max(1, min(round(len(edges.label) / batch_size), len(edges.starts), len(nodes.starts)))
    for edge_part, node_part in zip(_cut(edges, count), _cut(nodes, count), strict=True):
        yield Batch(
            torch.from_numpy(edge_part.features),
            torch.from_numpy(edge_part.label),
            torch.from_numpy(edge_part.family),
            torch.from_numpy(node_part.features),
            torch.from_numpy(node_part.label),
        )


def _cut(rows: Rows, count: int) -> Iterator[Rows]:
    """`count` parts of about equally many families."""
    bounds = np.append(rows.starts, len(rows.label))
    for families in np.array_split(np.arange(len(bounds) - 1), count):
        first, last = (families[0], families[-1] + 1) if len(families) else (0, 0)
        yield rows.select(np.arange(bounds[first], bounds[last]))


def _sample(rows: Rows, share: float, generator: np.random.Generator) -> Rows:
    """A random share of the families, shuffled."""
    count = len(rows.starts)
    return rows.select_families(generator.permutation(count)[: round(share * count)])


def _sampled(rows: Rows, share: float, generator: np.random.Generator) -> Rows:
    """The families sampled for one epoch, shuffled."""
    starts = rows.starts
    chosen = generator.random(len(starts)) < _odds(rows, share)[starts]
    return rows.select_families(generator.permutation(np.nonzero(chosen)[0]))


def _odds(rows: Rows, share: float) -> Array:
    """[m]: probability that an epoch samples the row: larger where a position has fewer noise draws, so that positions
    have equal weights."""
    return np.minimum(1.0, share * rows.num_draws.max(initial=1) / np.maximum(rows.num_draws, 1))
