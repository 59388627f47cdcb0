"""Learned selectors by the folders that users name."""

import os
from pathlib import Path

from ..controller.checkpoint import Checkpoint
from ..controller.errors import InputError
from .pair_config import REFERENCE, reference_folder


def read_selector(folder: str | os.PathLike[str], *, tokenizer_sha256: str | None) -> Checkpoint:
    """The checkpoint in a folder, `reference` for the one that ships with the reference pair.

    InputError where it cannot be used, and where it was trained for another tokenizer than that of the hash, if known.
    """
    path = Path(os.path.expanduser(folder))
    shipped = path == Path(REFERENCE) and not path.exists()
    checkpoint = Checkpoint.from_pretrained(reference_folder() / "selector" if shipped else path)
    if tokenizer_sha256 is not None and checkpoint.config.tokenizer_sha256 != tokenizer_sha256:
        raise InputError(
            f"selector {folder} was trained for the pair {checkpoint.config.pair!r}, whose tokenizer differs from that "
            "of these models; train one on traces of this pair"
        )
    return checkpoint
