"""Learned selectors by the folders that users name."""

import os
from pathlib import Path

from ..controller.checkpoint import Checkpoint, SelectorConfig, ShapesCheckpoint, ShapesConfig, is_shapes
from ..controller.errors import InputError
from .pair_config import REFERENCE, reference_folder


def read_selector(folder: str | os.PathLike[str], *, tokenizer_sha256: str | None) -> Checkpoint:
    """The checkpoint in a folder, `reference` for the one that ships with the reference pair.

    InputError where it cannot be used, and where it was trained for another tokenizer than that of the hash, if known.
    """
    checkpoint = Checkpoint.from_pretrained(_folder(folder))
    _require_tokenizer(folder, checkpoint.config, tokenizer_sha256)
    return checkpoint


def read_shapes(folder: str | os.PathLike[str], *, tokenizer_sha256: str | None) -> ShapesCheckpoint:
    """The same of a selector of shapes; the one that ships is not of that kind."""
    checkpoint = ShapesCheckpoint.read(_folder(folder))
    _require_tokenizer(folder, checkpoint.config, tokenizer_sha256)
    return checkpoint


def chooses_shapes(folder: str | os.PathLike[str]) -> bool:
    """Whether the selector in a folder is one of shapes."""
    return is_shapes(_folder(folder))


def _folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(os.path.expanduser(folder))
    shipped = path == Path(REFERENCE) and not path.exists()
    return reference_folder() / "selector" if shipped else path


def _require_tokenizer(
    folder: str | os.PathLike[str], config: SelectorConfig | ShapesConfig, tokenizer_sha256: str | None
) -> None:
    if tokenizer_sha256 is not None and config.tokenizer_sha256 != tokenizer_sha256:
        raise InputError(
            f"selector {folder} was trained for the pair {config.pair!r}, whose tokenizer differs from that "
            "of these models; train one on traces of this pair"
        )
