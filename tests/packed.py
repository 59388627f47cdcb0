"""Packed rows over pages in any order, for tests of what attends to them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from treewright.runtime.engines.transformers.pages import PAGE, PackedRows


class Packed(NamedTuple):
    """Queries of packed rows, a layer's storage, and what they attend to."""

    query: Tensor  # [H, M, D]
    keys: Tensor  # [pages * PAGE, G, D]
    values: Tensor
    rows: PackedRows
    columns: Tensor  # [M, C] int64: rows of the storage in the order of each row's text
    visible: Tensor  # [M, C] bool

    def to(self, device: str, dtype: torch.dtype) -> "Packed":
        rows = self.rows._replace(
            **{name: part.to(device) for name, part in self.rows._asdict().items() if isinstance(part, Tensor)}
        )
        query, keys, values = (part.to(device, dtype) for part in (self.query, self.keys, self.values))
        return Packed(query, keys, values, rows, self.columns.to(device), self.visible.to(device))

    @property
    def gathered(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each row as a text of its own: queries [M, H, 1, D], keys and values [M, G, C, D], mask [M, 1, 1, C]."""
        keys, values = (part.nan_to_num(posinf=0.0)[self.columns].transpose(1, 2) for part in (self.keys, self.values))
        return self.query.transpose(0, 1)[:, :, None], keys, values, self.visible[:, None, None]


def packed(
    counts: Sequence[int],
    lengths: Sequence[int],
    *,
    num_heads: int,
    num_groups: int,
    size: int,
    block_rows: int = 4,
    window: int | None = None,
    bit: int = 1,
    num_pages: int = 0,
) -> Packed:
    """`counts` rows of a tree behind each text of `lengths` committed rows; which of the rows before it a row sees is
    left to chance, as are all bits of that but `bit`. A text has the pages that the longest needs, or more. What is not
    of a text, and tree rows that nobody sees, hold infinities, as another text may have left them.
    """
    generator, num_texts, num_seen, num_rows = np.random.default_rng(0), len(counts), max(counts), sum(counts)
    num_pages = max(num_pages, (max(lengths) + num_seen - 1) // PAGE + 1)
    tables = 1 + generator.permutation(num_texts * num_pages).reshape(num_texts, num_pages)
    slots = np.repeat(np.arange(num_texts), counts)
    of_text = np.concatenate([np.arange(count) for count in counts])
    seen = (generator.random((num_rows, num_seen)) < 0.4) & (np.arange(num_seen) <= of_text[:, None])
    seen[np.arange(num_rows), of_text] = True
    depths = seen.sum(axis=1) - 1
    of_slots = np.array(lengths)[slots]
    positions = of_slots + depths
    columns = (tables[slots][:, :, None] * PAGE + np.arange(PAGE)).reshape(num_rows, -1)
    column = np.arange(columns.shape[1])
    visible = column < of_slots[:, None]
    if window is not None:
        visible &= positions[:, None] - column < window
    texts, behind = np.nonzero(seen)
    visible[texts, of_slots[texts] + behind] = True
    firsts = np.cumsum([0, *counts])
    blocks = [
        (first + start, min(block_rows, count - start))
        for first, count in zip(firsts, counts, strict=False)
        for start in range(0, count, block_rows)
    ]
    blocks += [(0, 0), (0, 0)]
    others = generator.integers(256, size=seen.shape).astype(np.uint8) & ~np.uint8(bit)
    rows = PackedRows(
        torch.from_numpy(tables.astype(np.int32)),
        torch.from_numpy(slots),
        torch.from_numpy(of_slots),
        torch.from_numpy(positions),
        torch.tensor([num_seen]),
        torch.from_numpy(np.append(others | seen * np.uint8(bit), np.full(50, 255, dtype=np.uint8))),
        torch.from_numpy(np.array(blocks).T.copy()),
        block_rows,
    )
    noise = torch.Generator().manual_seed(0)
    query = torch.randn(num_heads, num_rows, size, generator=noise, dtype=torch.float64)
    keys, values = torch.randn(
        2, (num_texts * num_pages + 1) * PAGE, num_groups, size, generator=noise, dtype=torch.float64
    )
    is_used = torch.zeros(len(keys), dtype=torch.bool)
    is_used[torch.from_numpy(columns[visible | (column < of_slots[:, None])])] = True
    keys[~is_used], values[~is_used] = torch.inf, torch.inf
    return Packed(query, keys, values, rows, torch.from_numpy(columns), torch.from_numpy(visible))
