"""What `generate` returns: its own tensors and output type, with the guest's statistics beside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.utils import GenerateDecoderOnlyOutput

from ...stats import DecodeStats
from .scores import RowScores
from .text import Rows


@dataclass
class GuestOutput(GenerateDecoderOnlyOutput):
    """The output of `generate`, without attentions, hidden states and a cache."""

    stats: DecodeStats | None = None


def output_of(rows: Rows, input_ids: Tensor, config: Any, stats: DecodeStats) -> Tensor | GuestOutput:
    """Of texts that have ended behind `input_ids` [B, L]."""
    texts = [text.token_ids[: rows.most_tokens(text)] for text in rows.texts]
    length = max(map(len, texts))
    pad = [] if config._pad_token_tensor is None else [int(config._pad_token_tensor)]
    filled = [text + pad * (length - len(text)) for text in texts]
    # As those of `generate`, whose next tokens are int64 whatever the prompts are.
    sequences = torch.cat((input_ids, torch.tensor(filled, device=input_ids.device)), dim=1)
    if not config.return_dict_in_generate:
        return sequences
    kept = [text.scores for text in rows.texts if text.scores is not None]
    columns: dict[str, Any] = {
        "scores": _stacked(kept, length, lambda row: row.scores or []) if config.output_scores else None,
        "logits": _stacked(kept, length, lambda row: row.logits) if config.output_logits else None,
    }
    whole: Any = sequences
    return GuestOutput(sequences=whole, **columns, stats=stats)


def _stacked(
    rows: Sequence[RowScores], length: int, column: Callable[[RowScores], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """[B, V] float32 of each of `length` tokens, -inf behind a text's end."""
    columns = [column(row) for row in rows]
    nothing = torch.full_like(columns[0][0], -torch.inf)
    return tuple(
        torch.stack([of_row[place] if place < len(of_row) else nothing for of_row in columns])
        for place in range(length)
    )
