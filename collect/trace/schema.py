"""What a trace folder holds: the columns of its tables, and what all its rows have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import pyarrow as pa

from ...controller.errors import InputError

SCHEMA_VERSION = 9
OLDEST_TEXTS = 4  # the oldest schema whose texts can be labelled again

TEXTS = pa.schema(
    [
        ("text_id", pa.string()),
        ("domain", pa.string()),
        ("document", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # prompt and continuation
        ("prompt_length", pa.int32()),
        # All that the text's own noise and warping depend on, to the bit.
        ("temperature", pa.float64()),
        ("top_k", pa.int32()),
        ("top_p", pa.float64()),
        ("seed", pa.uint64()),
        ("choice", pa.uint32()),
        # Positions where the teacher-forced row would have drawn another token; null before the text is labelled.
        ("num_ties", pa.int32()),
        ("decode_ms", pa.float32()),  # of its batch, shared evenly; null where the text was served
    ]
)
POSITIONS = pa.schema(
    [
        ("text_id", pa.string()),
        ("document", pa.string()),
        ("position", pa.int32()),  # index of the emitted token in its text
        ("draw", pa.int32()),  # 0: the text's own noise; above: the same rows under other noise, no token emitted
        ("temperature", pa.float32()),
        ("top_p", pa.float32()),
        ("emitted", pa.int32()),  # what the target draws here under the row's noise
        # Index of the emitted token among the candidates of each scheme, whichever the trace's own is; -1 if beyond.
        ("coupled_rank", pa.int32()),
        ("fixed_rank", pa.int32()),
        ("target_log_prob", pa.float32()),  # of the emitted token
        ("draft_log_prob", pa.float32()),
        ("target_entropy", pa.float32()),
        ("draft_entropy", pa.float32()),
        ("draft_top_log_prob", pa.float32()),
        ("overlap", pa.float32()),  # sum over tokens of min(target, drafter) probability
        # The nodes the drafter would hang here, best first under the trace's scheme, then the text's own n-grams' one;
        # -1 where there is none.
        ("candidates", pa.list_(pa.int32())),
        ("candidate_log_probs", pa.list_(pa.float32())),
        ("candidate_noisy_log_probs", pa.list_(pa.float32())),
        # What the text so far says about them, see `controller.ngrams`.
        ("candidate_ngram_log_probs", pa.list_(pa.float32())),
        ("ngram_top_log_prob", pa.float32()),
    ]
)


def rank_column(scheme: str) -> str:
    """The column of POSITIONS that holds the ranks under `scheme`."""
    return f"{scheme}_rank"


NODES = pa.schema(
    [
        ("text_id", pa.string()),
        ("document", pa.string()),
        ("position", pa.int32()),  # index of the root in its text
        ("scheme", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # of the envelope's nodes, root first
        ("parents", pa.list_(pa.int32())),
        ("ranks", pa.list_(pa.int32())),
        ("log_probs", pa.list_(pa.float32())),
        ("noisy_log_probs", pa.list_(pa.float32())),
        ("entropies", pa.list_(pa.float32())),
        ("top_log_probs", pa.list_(pa.float32())),
        ("ngram_log_probs", pa.list_(pa.float32())),
        ("ngram_top_log_probs", pa.list_(pa.float32())),
        ("expanded", pa.list_(pa.int32())),  # nodes whose children were drafted
    ]
)
# Every table's rows belong to a text; `texts` has exactly one row per text.
TABLES = {"texts": TEXTS, "positions": POSITIONS, "nodes": NODES}

# The columns each privacy mode leaves out: `features` keeps numbers about a text, never its tokens.
PRIVACY = {
    "tokens": (),
    "features": ("texts.tokens", "positions.emitted", "positions.candidates", "nodes.tokens"),
}


@dataclass(frozen=True)
class TraceHeader:
    """What every row of a folder has in common."""

    pair: str
    scheme: str  # empty where only texts are recorded
    tokenizer_sha256: str
    width: int  # the drafter's candidates per position, 0 where only texts are recorded
    command: dict[str, Any]  # the resolved configuration of the run
    target_sha256: str = ""  # which weights generated and labelled the texts, see `runtime.fingerprint`
    drafter_sha256: str = ""
    dtype: str = ""  # the number format both models ran in
    shard: str = "1/1"  # "i/n": every n-th text of the run from the i-th on; "*/n": merged from all n
    omitted: tuple[str, ...] = ()  # "table.column" the folder does not hold, for privacy
    schema_version: int = SCHEMA_VERSION

    def differences(self, other: Self) -> list[str]:
        """Names of the fields in which two runs differ, of the command those of its parts; folders may be renamed."""
        names = [field.name for field in fields(self) if field.name not in ("pair", "command")]
        ours, theirs = self.command, other.command
        parts = [part for part in sorted(ours.keys() | theirs.keys()) if ours.get(part) != theirs.get(part)]
        return [name for name in names if getattr(self, name) != getattr(other, name)] + parts

    @property
    def texts_only(self) -> bool:
        """Whether the texts still wait for their labels."""
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
            for name, schema in TABLES.items()
        }

    def schema(self, table: str, columns: Sequence[str] | None = None) -> pa.Schema:
        """Some columns of one table, or all there are; InputError for one that was left out."""
        for column in columns or ():
            if f"{table}.{column}" in self.omitted:
                raise InputError(
                    f"these traces leave {table}.{column} out for privacy, but it is needed here; "
                    "collect with privacy=tokens"
                )
        schema = self.schemas[table]
        return schema if columns is None else pa.schema([schema.field(column) for column in columns])
