"""The trace folder: texts the target wrote, and what the drafter thought at each of their positions."""

from .folder import TraceFolder
from .merge import merge_folders, parse_shard
from .schema import NODES, POSITIONS, PRIVACY, SCHEMA_VERSION, TABLES, TEXTS, TraceHeader, rank_column
from .texts import FolderTexts, read_texts

__all__ = [
    "NODES",
    "POSITIONS",
    "PRIVACY",
    "SCHEMA_VERSION",
    "TABLES",
    "TEXTS",
    "FolderTexts",
    "TraceFolder",
    "TraceHeader",
    "merge_folders",
    "parse_shard",
    "rank_column",
    "read_texts",
]
