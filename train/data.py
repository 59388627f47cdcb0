"""Training rows from traces: every reachable edge of the trees that could stand on recorded text."""

from dataclasses import dataclass

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ..collect.trace import TraceFolder
from ..controller.errors import InputError
from ..controller.features import edge_features
from ..controller.tree import Array


@dataclass(frozen=True)
class Positions:
    """The position rows of a trace folder as arrays, texts one after the other."""

    text: Array  # [n] number of the text
    document: Array  # [n] number of the document
    temperature: Array  # [n]
    top_p: Array  # [n]
    rank: Array  # [n] place of the emitted token among the candidates, -1 if beyond
    fixed_rank: Array  # [n]
    entropy: Array  # [n] of the drafter's row
    top_log_prob: Array  # [n]
    log_probs: Array  # [n, W] of the candidates
    noisy_log_probs: Array  # [n, W]; -inf where the sampling cut the candidate

    @classmethod
    def read(cls, folder: TraceFolder) -> "Positions":
        """InputError where the folder holds no rows."""
        table = folder.positions()
        if table.num_rows == 0:
            raise InputError(f"{folder.path} holds no positions; run `treewright collect` on more prompts")
        columns = {name: table[name].to_numpy() for name in table.column_names if not name.startswith("candidate")}

        def candidates(name: str) -> Array:
            return table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, folder.header.width)

        return cls(
            text=np.unique(columns["text_id"].astype(str), return_inverse=True)[1],
            document=np.unique(columns["document"].astype(str), return_inverse=True)[1],
            temperature=columns["temperature"],
            top_p=columns["top_p"],
            rank=columns["rank"],
            fixed_rank=columns["fixed_rank"],
            entropy=columns["draft_entropy"],
            top_log_prob=columns["draft_top_log_prob"],
            log_probs=candidates("candidate_log_probs"),
            noisy_log_probs=candidates("candidate_noisy_log_probs"),
        )

    def reach(self, max_depth: int) -> Array:
        """[n]: how many tokens right before a position were among the candidates in an unbroken run, at most
        `max_depth - 1`; a tree rooted up to that far back can have the position's candidates as nodes."""
        reach = np.zeros(len(self.rank), dtype=np.int64)
        for row in range(1, len(reach)):
            if self.text[row] == self.text[row - 1] and self.rank[row - 1] >= 0:
                reach[row] = min(reach[row - 1] + 1, max_depth - 1)
        return reach


@dataclass(frozen=True)
class Edges:
    """One row per (root, node) pair: a candidate as a node of the tree rooted `depth` tokens before it."""

    features: Array  # [m, F] float32
    taken: Array  # [m] float32, 1 where the text took the candidate
    document: Array  # [m]
    depth: Array  # [m]

    def select(self, rows: Array) -> "Edges":
        return Edges(self.features[rows], self.taken[rows], self.document[rows], self.depth[rows])


def reachable_edges(positions: Positions, max_depth: int) -> Edges:
    """All edges whose path is on the text: exactly the nodes a walk can come to ask about."""
    reach = positions.reach(max_depth)
    width = positions.log_probs.shape[1]
    emitted = np.maximum(positions.rank, 0)[:, None]
    on_text = np.take_along_axis(positions.log_probs, emitted, axis=1)[:, 0]
    on_text_noisy = np.take_along_axis(positions.noisy_log_probs, emitted, axis=1)[:, 0]
    parts, above, above_noisy = [], np.zeros(len(reach)), np.zeros(len(reach))
    for depth in range(1, max_depth + 1):
        rows = np.nonzero(reach >= depth - 1)[0]
        features = edge_features(
            log_probs=positions.log_probs[rows],
            noisy_log_probs=positions.noisy_log_probs[rows],
            ranks=np.arange(width),
            entropies=positions.entropy[rows, None],
            top_log_probs=positions.top_log_prob[rows, None],
            depths=np.array(depth),
            path_log_probs=above[rows, None],
            path_noisy_log_probs=above_noisy[rows, None],
            temperatures=positions.temperature[rows, None],
            top_ps=positions.top_p[rows, None],
        )
        drafted = np.isfinite(positions.noisy_log_probs[rows])
        taken = (positions.rank[rows, None] == np.arange(width)).astype(np.float32)
        document = np.broadcast_to(positions.document[rows, None], taken.shape)
        parts.append(Edges(features[drafted], taken[drafted], document[drafted], np.full(drafted.sum(), depth)))
        # The path one level deeper starts one token further back.
        above = _shifted(above, on_text, depth)
        above_noisy = _shifted(above_noisy, on_text_noisy, depth)
    columns = zip(*((part.features, part.taken, part.document, part.depth) for part in parts), strict=True)
    return Edges(*(np.concatenate(column) for column in columns))


def _shifted(sums: Array, values: Array, back: int) -> Array:
    """Add to each position's path sum the value `back` tokens before it; meaningless where the reach is shorter."""
    longer = sums.copy()
    longer[back:] += values[:-back]
    return longer


def split_documents(edges: Edges, validation_share: float, seed: int) -> tuple[Edges, Edges]:
    """Training and validation edges with no document in both; InputError where there are not two documents."""
    documents = np.unique(edges.document)
    if len(documents) < 2:
        raise InputError("the traces hold one document only; training needs two to keep validation apart, collect more")
    order = np.random.default_rng(seed).permutation(documents)
    held_out = order[: max(1, round(len(order) * validation_share))]
    inside = np.isin(edges.document, held_out)
    return edges.select(np.nonzero(~inside)[0]), edges.select(np.nonzero(inside)[0])


class EdgeData(lightning.LightningDataModule):
    """Serves edges as batches of (features [b, F], taken [b])."""

    def __init__(self, training: Edges, validation: Edges, batch_size: int):
        super().__init__()
        self._training, self._validation = training, validation
        self._batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(_dataset(self._training), batch_size=self._batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(_dataset(self._validation), batch_size=4 * self._batch_size)


def _dataset(edges: Edges) -> TensorDataset:
    return TensorDataset(torch.from_numpy(edges.features), torch.from_numpy(edges.taken))
