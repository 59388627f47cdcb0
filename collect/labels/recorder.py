"""All rows of some texts: both models read each text, and their logits are reduced to labels and envelopes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...controller.contract import Scheme
from ...runtime.pair import Pair
from ...runtime.schemes.ranked import get_ranked_scheme
from ..text import sampling_of
from ..trace import TextRow, TraceRows
from .envelopes import EnvelopeConfig, grow_envelopes
from .positions import label_text


@dataclass(frozen=True)
class Recorder:
    """Makes the rows of texts; the result depends on the pair, the settings and the text alone."""

    pair: Pair
    scheme: Scheme
    width: int
    draws: int
    envelopes: EnvelopeConfig

    def record(self, texts: Sequence[TextRow], enveloped: Sequence[bool]) -> TraceRows:
        """The rows of `texts`; envelopes for those where `enveloped` is true."""
        rows = TraceRows([], [], [])
        for text, with_envelopes in zip(texts, enveloped, strict=True):
            labels = label_text(self.pair.target, self.pair.drafter, text, self.scheme, self.width, self.draws)
            rows.texts.append(text._replace(num_ties=labels.num_ties))
            rows.positions.extend(labels.positions)
            for scheme in self._envelope_schemes(text) if with_envelopes else ():
                rows.nodes.extend(grow_envelopes(self.pair.drafter, text, scheme, self.width, self.envelopes))
        return rows

    def _envelope_schemes(self, text: TextRow) -> list[Scheme]:
        schemes = [get_ranked_scheme(name) for name in self.envelopes.schemes]
        return schemes[:1] if sampling_of(text).is_greedy else schemes
