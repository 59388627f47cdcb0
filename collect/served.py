"""`serve --record`: stores every finished text, from which `collect --relabel` makes training rows."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ..controller.errors import InputError
from ..runtime.pair import Pair
from ..runtime.request import Request
from .header import trace_header
from .text import text_row
from .trace import TraceFolder, TraceRows

log = logging.getLogger(__name__)


class ServedTexts:
    """Appends texts to a trace folder of texts alone. It is never finished: the next run of the same pair continues it.

    A text is on the disk when the call returns. After the first write error no more are stored.
    """

    def __init__(self, folder: TraceFolder):
        self._folder = folder
        self._open = True

    @classmethod
    def open(cls, path: Path, pair: Pair) -> Self:
        """Start or continue the folder; InputError where it holds anything but texts served by this pair."""
        return cls(TraceFolder.create(path, trace_header(pair, scheme="", width=0, command={"serve": {}})))

    def __call__(self, request: Request, token_ids: Sequence[int]) -> bool:
        """Store a text; False after a write error, and for one that was not drawn from the target's own rows."""
        if not self._open or request.processor is not None:
            return False
        text_id, document = f"{self._folder.num_texts:08d}", _document(request.prompt_ids)
        text = text_row(request, token_ids, text_id=text_id, domain="served", document=document)
        try:
            self._folder.append(TraceRows([text], [], []))
        except InputError as error:
            self._open = False
            log.error("texts are no longer recorded, while serving goes on: %s", error)
        return self._open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()


def _document(prompt_ids: Sequence[int]) -> str:
    """A name for all texts of one prompt, whenever they are generated: they may not fall on both sides of a split."""
    return f"prompt {hashlib.sha256(json.dumps(list(prompt_ids)).encode()).hexdigest()[:16]}"
