"""The checkpoint folder: what a trained selector is, which pair and scheme it is for, and how it was made."""

from .config import HASHED_FILES, SelectorConfig
from .folder import Checkpoint, require_replaceable, save_checkpoint

__all__ = ["HASHED_FILES", "Checkpoint", "SelectorConfig", "require_replaceable", "save_checkpoint"]
