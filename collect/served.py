"""`serve --record`: stores every finished text, from which `collect --relabel` makes training rows."""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

from ..controller.errors import InputError
from ..runtime.pair import Pair
from ..runtime.request import Request
from .header import trace_header
from .text import text_row
from .trace import TraceFolder, TraceHeader, TraceRows

RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)


class ServedTexts:
    """Appends texts to a trace folder of texts alone. It is never finished: the next run of the same pair continues it.

    A text is on the disk when the call returns. After a write error none is stored until the folder can be continued,
    which a thread tries every `retry_seconds`: to verify what is in the folder takes longer than a text may wait.
    """

    def __init__(self, path: Path, header: TraceHeader, retry_seconds: float):
        self._path = path
        self._header = header
        self._retry_seconds = retry_seconds
        self._folder: TraceFolder | None = TraceFolder.create(path, header)  # None after an error, the thread's then
        self._ends = Event()
        self._continuing: Thread | None = None

    @classmethod
    def open(cls, path: Path, pair: Pair, *, retry_seconds: float = RETRY_SECONDS) -> Self:
        """Start or continue the folder; InputError where it holds anything but texts served by this pair."""
        return cls(path, trace_header(pair, scheme="", width=0, command={"serve": {}}), retry_seconds)

    def __call__(self, request: Request, token_ids: Sequence[int]) -> bool:
        """Store a text; False where the disk does not take it, and for one not drawn from the target's own rows."""
        folder = self._folder
        if folder is None or request.processor is not None:
            return False
        text_id, document = f"{folder.num_texts:08d}", _document(request.prompt_ids)
        text = text_row(request, token_ids, text_id=text_id, domain="served", document=document)
        try:
            folder.append(TraceRows([text], [], []))
        except InputError as error:
            log.error("texts are not recorded, while serving goes on: %s", error)
            self._folder = None
            self._continuing = Thread(target=self._continue, name="record")
            self._continuing.start()
            return False
        return True

    def _continue(self) -> None:
        while not self._ends.wait(self._retry_seconds):
            with suppress(InputError):
                self._folder = TraceFolder.create(self._path, self._header)
                log.warning("texts are recorded again")
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        if self._continuing is not None:
            self._continuing.join()
        if self._folder is not None:
            self._folder.close()


def _document(prompt_ids: Sequence[int]) -> str:
    """A name for all texts of one prompt, whenever they are generated: they may not fall on both sides of a split."""
    return f"prompt {hashlib.sha256(json.dumps(list(prompt_ids)).encode()).hexdigest()[:16]}"
