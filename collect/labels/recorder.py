"""All rows of some texts: both models read each text, and their logits are reduced to labels and envelopes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...controller.errors import InputError
from ...controller.memory import MemoryConfig
from ...runtime.memory import require_states
from ...runtime.pair import Pair
from ...runtime.schemes.ranked import get_ranked_scheme
from ...runtime.selectors import read_selector
from ...runtime.speculation import MemoryOptions
from ..text import sampling_of
from ..trace import PRIVACY, TextRow, TraceRows
from ..trace.merge import parse_shard
from .envelopes import EnvelopeConfig, grow_envelopes
from .positions import label_text
from .rows import TextMemory
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
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    selector: Path | None = None
    privacy: str = "tokens"
    shard: str = "1/1"

    def __post_init__(self) -> None:
        get_ranked_scheme(self.scheme)
        if min(self.width, self.draws, self.batch) < 1:
            raise InputError(f"width, draws and batch are at least 1, got {self.width}, {self.draws} and {self.batch}")
        if self.privacy not in PRIVACY:
            raise InputError(f"privacy is one of {', '.join(PRIVACY)}, got {self.privacy!r}")
        parse_shard(self.shard)

    def memory_of(self, pair: Pair) -> MemoryConfig | None:
        """By which the drafter's rows are corrected; InputError for an option of it that would do nothing, and where
        the drafter cannot be corrected."""
        own = None
        if self.selector is not None:
            own = read_selector(self.selector, tokenizer_sha256=pair.tokenizer_sha256).config.memory
        memory = self.memory.over(own)
        if self.selector is not None and (own is None or memory is None):
            raise InputError(
                f"selector {self.selector} does nothing, for "
                f"{'it carries no memory of errors' if own is None else 'memory.window is 0'}; leave it out"
            )
        if memory is not None:
            require_states(pair)
            if self.shapes.labels:
                raise InputError(
                    "shapes.labels are of a drafter without a memory of its errors; leave the memory out, or the labels"
                )
        return memory


def record_rows(
    pair: Pair,
    texts: Sequence[TextRow],
    enveloped: Sequence[bool],
    run: RunConfig,
    memory: MemoryConfig | None = None,
) -> TraceRows:
    """The rows of `texts`, with envelopes where `enveloped` is true, and with a `memory` of errors or without."""
    scheme, rows, labelled = get_ranked_scheme(run.scheme), TraceRows([], [], []), ShapeRows([], [])
    for text, with_envelopes in zip(texts, enveloped, strict=True):
        models = pair.target, pair.drafter
        known = None if memory is None else TextMemory.of(*models, text, memory)
        labels = label_text(*models, text, scheme, run.width, run.draws, known)
        rows.texts.append(text._replace(num_ties=labels.num_ties))
        rows.positions.extend(labels.positions)
        names = run.envelopes.schemes if with_envelopes else ()
        for name in names[:1] if sampling_of(text).is_greedy else names:  # greedy text is alike under all schemes
            grown = get_ranked_scheme(name)
            rows.nodes.extend(grow_envelopes(pair.drafter, text, grown, run.width, run.envelopes, known))
        if run.shapes.labels and not sampling_of(text).is_greedy:  # greedily, nothing is sampled
            of_text = label_shapes(*models, text, run.shapes)
            labelled.shapes.extend(of_text.shapes)
            labelled.sides.extend(of_text.sides)
    return rows._replace(**labelled._asdict())
