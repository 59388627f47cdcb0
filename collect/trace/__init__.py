"""The trace folder: generated texts, and what target and drafter predict at each of their positions."""

from .folder import TraceFolder
from .manifest import Shard
from .merge import parse_shard
from .schema import POSITIONS, PRIVACY, TABLES, EnvelopeRow, PositionRow, TextRow, TraceHeader, TraceRows, rank_column
from .texts import FolderTexts, read_texts

__all__ = ("POSITIONS", "PRIVACY", "TABLES", "EnvelopeRow", "FolderTexts", "PositionRow", "Shard", "TextRow")
__all__ += ("TraceFolder", "TraceHeader", "TraceRows", "parse_shard", "rank_column", "read_texts")
