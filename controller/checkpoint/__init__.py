"""The checkpoint folder: what a trained selector is, which pair and scheme it is for, and how it was made."""

from .baselines import Baselines
from .bundle import SelectorBundle
from .config import HASHED_FILES, SCHEMA_VERSION, SelectorConfig
from .folder import Checkpoint
from .saving import require_replaceable, save_checkpoint
from .shapes import ShapesCheckpoint, ShapesConfig, is_shapes

__all__ = [
    "HASHED_FILES",
    "SCHEMA_VERSION",
    "Baselines",
    "Checkpoint",
    "SelectorBundle",
    "SelectorConfig",
    "ShapesCheckpoint",
    "ShapesConfig",
    "is_shapes",
    "require_replaceable",
    "save_checkpoint",
]
