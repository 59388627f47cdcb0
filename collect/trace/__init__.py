"""The trace folder: generated texts, and what target and drafter predict at each of their positions."""

from .folder import TraceFolder
from .manifest import Shard
from .merge import parse_shard
from .schema import (
    NODES,
    POSITIONS,
    PRIVACY,
    SCHEMA_VERSION,
    TABLES,
    TEXTS,
    EnvelopeRow,
    PositionRow,
    TextRow,
    TraceHeader,
    TraceRows,
    rank_column,
)
from .texts import FolderTexts, read_texts

__all__ = [
    "NODES",
    "POSITIONS",
    "PRIVACY",
    "SCHEMA_VERSION",
    "TABLES",
    "TEXTS",
    "EnvelopeRow",
    "FolderTexts",
    "PositionRow",
    "Shard",
    "TextRow",
    "TraceFolder",
    "TraceHeader",
    "TraceRows",
    "parse_shard",
    "rank_column",
    "read_texts",
]
