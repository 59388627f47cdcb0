"""Files of prompts, row by row. Lines end at a line feed alone, with or without a carriage return before it: all other
Unicode separators are text."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...controller.errors import InputError, first_line
from .prompt import CONTENT_KEYS, NEEDED


class Row(NamedTuple):
    content: Any
    label: str  # where in the file


def read_rows(path: Path) -> Iterator[Row]:
    """InputError in one sentence where the file cannot be read, or is of another kind than `READERS`."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"prompts cannot be read from {path}: files of prompts end in {', '.join(READERS)}; rename it")
    return reader(path)


def require_content(names: list[str], source: str) -> None:
    """InputError unless one of a table's columns holds prompts."""
    if not set(CONTENT_KEYS).intersection(names):
        raise InputError(f"{source} has the columns {', '.join(names)}, but a column {NEEDED} is needed; rename one")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"prompts cannot be read from {path} ({error.strerror}); use another file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompts cannot be read from {path} ({error}); store it as UTF-8") from error


def _lines(path: Path) -> Iterator[Row]:
    """Those that are not blank."""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield Row(line.removesuffix("\r"), f"line {number}")


def _from_txt(path: Path) -> Iterator[Row]:
    for line in _lines(path):
        yield line._replace(content={"text": line.content})


def _from_jsonl(path: Path) -> Iterator[Row]:
    for line in _lines(path):
        yield line._replace(content=_parsed(line.content, f"{path} {line.label}"))


def _from_json(path: Path) -> Iterator[Row]:
    """A list of objects, or one object per line."""
    text = _text(path)
    if not text.lstrip().startswith("["):
        yield from _from_jsonl(path)
        return
    for number, content in enumerate(_parsed(text, str(path)), 1):
        yield Row(content, f"entry {number}")


def _parsed(text: str, location: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location} is no JSON ({error}); fix it") from error


def _from_csv(path: Path) -> Iterator[Row]:
    """Rows behind a header; an empty cell is not given."""
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        require_content([*(rows.fieldnames or ())], str(path))
        for number, cells in enumerate(rows, 1):
            if None in cells:
                raise InputError(f"{path} row {number} has more cells than the header; fix it")
            yield Row({name: cell or None for name, cell in cells.items()}, f"row {number}")
    except csv.Error as error:
        raise InputError(
            f"{path} is no CSV behind line {rows.line_num} ({error}); fix it, or give a .jsonl file"
        ) from error


def _from_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"prompts cannot be read from {path} ({first_line(error)}); fix the file") from error
    require_content(table.column_names, str(path))
    for number, content in enumerate(table.to_pylist(), 1):
        yield Row(content, f"row {number}")


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".txt": _from_txt,
    ".jsonl": _from_jsonl,
    ".json": _from_json,
    ".csv": _from_csv,
    ".parquet": _from_parquet,
}
