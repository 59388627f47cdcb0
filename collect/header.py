"""The header of a trace folder: fingerprints identify the models, because model folders share names."""

from typing import Any

from ..runtime.pair import Pair
from .trace import TraceHeader


def trace_header(pair: Pair, *, scheme: str, width: int, command: dict[str, Any], **of_run: Any) -> TraceHeader:
    """The header of traces of `pair`; `of_run` are its fields `shard`, `omitted`, `groups` and `memory`."""
    return TraceHeader(
        pair=pair.name,
        scheme=scheme,
        tokenizer_sha256=pair.tokenizer_sha256,
        width=width,
        command=command,
        target_sha256=pair.target.fingerprint,
        drafter_sha256=pair.source.fingerprint,
        dtype=pair.number_format,
        **of_run,
    )
