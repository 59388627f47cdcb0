"""Prompts: from a text or JSONL file, the embedded held-out set, or any `datasets` source."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..controller.errors import InputError, first_line
from ..runtime.pair import REFERENCE, reference_folder


@dataclass(frozen=True)
class PromptConfig:
    """Where prompts come from."""

    source: str = REFERENCE
    """A .txt file (one prompt per line), a .jsonl file (key `prompt`), a `datasets` name, or `reference`"""
    split: str = "tune"
    """Which split: `tune` to collect and train on, `bench` to measure on; any `split` key of a JSONL file or dataset"""
    limit: int = 64
    """How many prompts to take, spread evenly over the source"""


@dataclass(frozen=True)
class Prompt:
    text: str
    domain: str
    document: str  # prompts of one document never stand on both sides of a train/validation split


def load_prompts(config: PromptConfig) -> list[Prompt]:
    """The chosen prompts, spread evenly over the source; InputError in one sentence where none can be read."""
    if config.limit < 1:
        raise InputError(f"the prompt limit is at least 1, got {config.limit}")
    path = reference_folder() / "prompts.jsonl" if config.source == REFERENCE else Path(config.source)
    if path.suffix == ".txt":
        prompts = [Prompt(line, "text", f"line {n}") for n, line in enumerate(_lines(path), 1) if line.strip()]
    elif path.suffix == ".jsonl":
        prompts = _from_jsonl(path, config.split)
    else:
        prompts = _from_datasets(config.source, config.split)
    if not prompts:
        raise InputError(f"no prompts of split {config.split!r} in {config.source}; check the file and the split name")
    step = max(1.0, len(prompts) / config.limit)
    return [prompts[int(number * step)] for number in range(min(config.limit, len(prompts)))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts cannot be read from {path} ({error}); give a UTF-8 .txt or .jsonl file") from error


def _from_jsonl(path: Path, split: str) -> list[Prompt]:
    prompts = []
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            text = row["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} line {number} is no JSON object with a key 'prompt'; mend the line") from error
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path} line {number} has an empty prompt; remove the line")
        if row.get("split", split) == split:
            prompts.append(Prompt(text, row.get("domain", "text"), row.get("document", f"line {number}")))
    return prompts


def _from_datasets(name: str, split: str) -> list[Prompt]:
    import datasets  # takes a second to import, and files do not need it

    try:
        rows: Any = datasets.load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        raise InputError(
            f"prompts cannot be read from {name!r} ({first_line(error)}); "
            "give a .txt or .jsonl file that exists, or a dataset that is cached or online"
        ) from error
    column = next((column for column in ("prompt", "text") if column in (rows.column_names or [])), None)
    if column is None:
        raise InputError(f"dataset {name!r} has columns {rows.column_names}, but a column 'prompt' or 'text' is needed")
    return [Prompt(str(row[column]), name, f"row {number}") for number, row in enumerate(rows)]
