"""All rows of some texts: both models read each text, and their logits are reduced to labels and envelopes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...controller.errors import InputError
from ...runtime.pair import Pair
from ...runtime.schemes.ranked import get_ranked_scheme
from ..text import sampling_of
from ..trace import PRIVACY, TextRow, TraceRows
from ..trace.merge import parse_shard
from .envelopes import EnvelopeConfig, grow_envelopes
from .positions import label_text
from .shapes import ShapeConfig, ShapeRows, label_shapes


@dataclass(frozen=True)
class RunConfig:
    """How texts are labelled and stored; the fields are options of the `collect` command."""

    scheme: str = "coupled"
    width: int = 4
    draws: int = 4
    batch: int = 8
    envelopes: EnvelopeConfig = field(default_factory=EnvelopeConfig)
    shapes: ShapeConfig = field(default_factory=ShapeConfig)
    privacy: str = "tokens"
    shard: str = "1/1"

    def __post_init__(self) -> None:
        get_ranked_scheme(self.scheme)
        if min(self.width, self.draws, self.batch) < 1:
            raise InputError(f"width, draws and batch are at least 1, got {self.width}, {self.draws} and {self.batch}")
        if self.privacy not in PRIVACY:
            raise InputError(f"privacy is one of {', '.join(PRIVACY)}, got {self.privacy!r}")
        parse_shard(self.shard)


def record_rows(pair: Pair, texts: Sequence[TextRow], enveloped: Sequence[bool], run: RunConfig) -> TraceRows:
    """The rows of `texts`, with envelopes where `enveloped` is true."""
    scheme, rows, labelled = get_ranked_scheme(run.scheme), TraceRows([], [], []), ShapeRows([], [])
    for text, with_envelopes in zip(texts, enveloped, strict=True):
        labels = label_text(pair.target, pair.drafter, text, scheme, run.width, run.draws)
        rows.texts.append(text._replace(num_ties=labels.num_ties))
        rows.positions.extend(labels.positions)
        names = run.envelopes.schemes if with_envelopes else ()
        for name in names[:1] if sampling_of(text).is_greedy else names:  # greedy text is alike under all schemes
            rows.nodes.extend(grow_envelopes(pair.drafter, text, get_ranked_scheme(name), run.width, run.envelopes))
        if run.shapes.labels and not sampling_of(text).is_greedy:  # greedily, nothing is sampled
            of_text = label_shapes(pair.target, pair.drafter, text, run.shapes)
            labelled.shapes.extend(of_text.shapes)
            labelled.sides.extend(of_text.sides)
    return rows._replace(**labelled._asdict())
