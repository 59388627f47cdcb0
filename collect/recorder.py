"""Labels texts with both models: what the drafter would have hung at each position, reduced to trace rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..controller.contract import Scheme
from ..runtime.pair import Pair
from ..runtime.sampling import Sampling
from ..runtime.schemes.ranked import get_ranked_scheme
from .envelope import EnvelopeConfig, grow_envelopes
from .label import label_text
from .text import Text


@dataclass(frozen=True)
class Recorder:
    """Reduces both models' rows over texts to trace rows, whoever wrote the texts and whenever."""

    pair: Pair
    scheme: Scheme
    width: int
    draws: int
    envelopes: EnvelopeConfig

    def record(self, texts: Sequence[Text], enveloped: Sequence[bool]) -> dict[str, list[dict[str, Any]]]:
        """Rows by table of some texts, each with envelopes or without."""
        rows: dict[str, list[dict[str, Any]]] = {"texts": [], "positions": [], "nodes": []}
        for text, with_envelopes in zip(texts, enveloped, strict=True):
            self._record(text, with_envelopes, rows)
        return rows

    def _record(self, text: Text, with_envelopes: bool, rows: dict[str, list[dict[str, Any]]]) -> None:
        target, drafter = self.pair.target, self.pair.drafter
        tokens, sampling = np.array(text.tokens, dtype=np.int64), text.sampling
        shared = {"text_id": text.text_id, "document": text.document}
        warp = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        positions, num_ties = label_text(
            target, drafter, tokens, text.prompt_length, sampling, self.scheme, self.width, self.draws
        )
        rows["texts"].append(text.row(num_ties))
        rows["positions"] += [shared | warp | row for row in positions]
        for scheme in self._envelope_schemes(sampling) if with_envelopes else ():
            grown = grow_envelopes(drafter, tokens, text.prompt_length, sampling, scheme, self.width, self.envelopes)
            rows["nodes"] += [shared | row for row in grown]

    def _envelope_schemes(self, sampling: Sampling) -> list[Scheme]:
        schemes = [get_ranked_scheme(name) for name in self.envelopes.schemes]
        return schemes[:1] if sampling.is_greedy else schemes
