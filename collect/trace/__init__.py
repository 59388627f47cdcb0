"""The trace folder: generated texts, and what target and drafter predict at each of their positions."""

from .folder import TraceFolder
from .schema import GROUPS, PRIVACY, TABLES, TextRow, TraceHeader, TraceRows, rank_column
from .texts import read_texts

__all__ = [
    "GROUPS",
    "PRIVACY",
    "TABLES",
    "TextRow",
    "TraceFolder",
    "TraceHeader",
    "TraceRows",
    "rank_column",
    "read_texts",
]
