"""The columns of a trace folder's tables, and the header that all its rows share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple, Self, get_type_hints

import pyarrow as pa

from ...controller.errors import InputError
from ...controller.memory import MemoryConfig

SCHEMA_VERSION = 9
OLDEST_TEXTS = 4  # the oldest schema whose texts can be labelled again

Name = Annotated[str, pa.string()]
Int32 = Annotated[int, pa.int32()]
Float32 = Annotated[float, pa.float32()]
Float64 = Annotated[float, pa.float64()]
Ints = Annotated[Sequence[int], pa.list_(pa.int32())]
Floats = Annotated[Sequence[float], pa.list_(pa.float32())]


class TextRow(NamedTuple):
    """One text."""

    text_id: Name
    domain: Name
    document: Name
    tokens: Ints  # prompt and continuation
    prompt_length: Int32
    # All that the text's own noise and warping depend on, to the bit.
    temperature: Float64
    top_k: Int32
    top_p: Float64
    seed: Annotated[int, pa.uint64()]
    choice: Annotated[int, pa.uint32()]
    # Positions where the teacher-forced row would have drawn another token; null before the text is labelled.
    num_ties: Annotated[int | None, pa.int32()]
    decode_ms: Annotated[float | None, pa.float32()]  # of its batch, shared evenly; null where the text was served


class PositionRow(NamedTuple):
    """One generated token, or what another noise draw would have made of its position."""

    text_id: Name
    document: Name
    position: Int32  # index of the emitted token in its text
    draw: Int32  # 0: the text's own noise; above: the same rows under other noise, no token emitted
    temperature: Float32
    top_p: Float32
    emitted: Int32  # what the target draws here under the row's noise
    # Index of the emitted token among the candidates of each scheme, whichever the trace's own is; -1 if beyond.
    coupled_rank: Int32
    fixed_rank: Int32
    target_log_prob: Float32  # of the emitted token
    draft_log_prob: Float32
    target_entropy: Float32
    draft_entropy: Float32
    draft_top_log_prob: Float32
    overlap: Float32  # sum over tokens of min(target, drafter) probability
    # The children the drafter would append here, best first under the trace's scheme, then the one of the text's own
    # n-grams; -1 where there is none.
    candidates: Ints
    candidate_log_probs: Floats
    candidate_noisy_log_probs: Floats
    candidate_ngram_log_probs: Floats  # see `runtime.drafters.ngrams.model.Contexts`
    ngram_top_log_prob: Float32


class EnvelopeRow(NamedTuple):
    """One envelope: a tree that contains the tree of every policy at that root."""

    text_id: Name
    document: Name
    position: Int32  # index of the root in its text
    scheme: Name
    tokens: Ints  # of the envelope's nodes, root first
    parents: Ints
    ranks: Ints
    log_probs: Floats
    noisy_log_probs: Floats
    entropies: Floats
    top_log_probs: Floats
    ngram_log_probs: Floats
    ngram_top_log_probs: Floats
    expanded: Ints  # nodes whose children were drafted


class ShapeRow(NamedTuple):
    """Of one generated token what the expected accepted length of every delayed tree follows from, and what is known at
    the position before it, the root of such trees; see `collect.labels.shapes`."""

    text_id: Name
    document: Name
    position: Int32  # index of the emitted token in its text
    temperature: Float32
    top_p: Float32
    target_log_prob: Float32  # of the emitted token
    target_entropy: Float32
    agreement: Floats  # the numbers of `controller.learned.agreement`, with the root before the token
    ratio: Float32  # the drafter's probability of the emitted token over the target's
    # By verifier, from k = 1 ... 4 paths before the token to m = 1 ... k through it: chances over the token's own.
    naive_tree: Floats
    specinfer: Floats
    spectr: Floats
    # Accepted length of every branching tree of the menu behind the root; empty where no trees were drafted.
    traversal: Floats


class SideRow(NamedTuple):
    """Of the same token how far candidates beside a trunk's draws would have caught it."""

    text_id: Name
    document: Name
    position: Int32
    # For the drafter's best 1 ... 7 tokens besides a draw that was refused: chance that the token is one of them.
    landing: Floats


class TraceRows(NamedTuple):
    """The rows that some texts add to each table."""

    texts: list[TextRow]
    positions: list[PositionRow]
    nodes: list[EnvelopeRow]
    shapes: Sequence[ShapeRow] = ()
    sides: Sequence[SideRow] = ()


def rank_column(scheme: str) -> str:
    """The column of POSITIONS that holds the ranks under `scheme`."""
    return f"{scheme}_rank"


def _schema(row: type[NamedTuple]) -> pa.Schema:
    hints = get_type_hints(row, include_extras=True)
    return pa.schema([(name, hint.__metadata__[0]) for name, hint in hints.items()])


TEXTS, POSITIONS, NODES = _schema(TextRow), _schema(PositionRow), _schema(EnvelopeRow)
# Every table's rows belong to a text; `texts` has exactly one row per text.
TABLES = {"texts": TEXTS, "positions": POSITIONS, "nodes": NODES}
# Tables that a folder has where its header declares them; every one is a group of labels of its own.
GROUPS = {"shapes": _schema(ShapeRow), "sides": _schema(SideRow)}

# The columns that each privacy mode leaves out: `features` keeps numbers about a text, never its tokens.
PRIVACY = {"tokens": (), "features": ("texts.tokens", "positions.emitted", "positions.candidates", "nodes.tokens")}


@dataclass(frozen=True)
class TraceHeader:
    """What every row of a folder has in common."""

    pair: str
    scheme: str  # empty where only texts are recorded
    tokenizer_sha256: str
    width: int  # the drafter's candidates per position, 0 where only texts are recorded
    command: dict[str, Any]  # the resolved configuration of the run
    # Which weights generated and labelled the texts, see `runtime.engines.base`.
    target_sha256: str = ""
    drafter_sha256: str = ""
    dtype: str = ""  # the number format both models ran in
    shard: str = "1/1"  # "i/n": every n-th text of the run from the i-th on; "*/n": merged from all n
    omitted: tuple[str, ...] = ()  # "table.column" the folder does not hold, for privacy
    groups: tuple[str, ...] = ()  # tables of GROUPS that the folder holds
    memory: MemoryConfig | None = None  # of the drafter's errors, by which its rows are corrected in all tables
    schema_version: int = SCHEMA_VERSION

    def differences(self, other: Self) -> list[str]:
        """Names of the fields in which two runs differ, of the command those of its parts; folders may be renamed."""
        names = [field.name for field in fields(self) if field.name not in ("pair", "command")]
        ours, theirs = self.command, other.command
        parts = [part for part in sorted(ours.keys() | theirs.keys()) if ours.get(part) != theirs.get(part)]
        return [name for name in names if getattr(self, name) != getattr(other, name)] + parts

    @property
    def texts_only(self) -> bool:
        """Whether the texts are not labelled yet."""
        return self.width == 0

    @property
    def num_candidates(self) -> int:
        """Columns of candidates: the drafter's, and the n-grams' one behind them."""
        return self.width + 1

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        """The tables of this folder, less the omitted columns."""
        return {
            name: pa.schema([field for field in schema if f"{name}.{field.name}" not in self.omitted])
            for name, schema in (TABLES | {group: GROUPS[group] for group in self.groups}).items()
        }

    def schema(self, table: str, columns: Sequence[str] | None = None) -> pa.Schema:
        """Some columns of one table, or all there are; InputError for one that was left out."""
        for column in columns or ():
            if f"{table}.{column}" in self.omitted:
                raise InputError(
                    f"these traces leave {table}.{column} out for privacy, but it is needed here; "
                    "collect with privacy=tokens"
                )
        if table in GROUPS and table not in self.groups:
            raise InputError(
                f"these traces hold no labels of {table}; collect, or relabel them, with --shapes.labels true"
            )
        schema = self.schemas[table]
        return schema if columns is None else pa.schema([schema.field(column) for column in columns])
