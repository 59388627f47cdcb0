"""Prompts: from a file, the embedded held-out set, or any `datasets` source."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...controller.errors import InputError, first_line
from ...controller.ranges import require_at_least
from ...runtime.pair_config import REFERENCE, reference_folder
from .files import READERS, read_rows, require_content
from .prompt import CONTENT_KEYS, Prompt, read_prompt


@dataclass(frozen=True)
class PromptConfig:
    """Where prompts come from."""

    source: str = REFERENCE
    """A .txt file (one prompt per line); a .jsonl, .json, .csv or .parquet file, or a `datasets` folder or name (key
    `prompt`, `text` or `messages`: a chat, of which the last answer is left out); or `reference`"""
    split: str = "tune"
    """Which split: `tune` to collect and train on, `bench` to measure on; any `split` key of a file's rows, or split of
    a dataset"""
    limit: int = 64
    """How many prompts to take, spread evenly over the source"""

    def __post_init__(self) -> None:
        for name in ("source", "split"):
            if not getattr(self, name).strip():
                raise InputError(f"prompts.{name} is empty; leave it out or give one")
        require_at_least("prompts.limit", self.limit, 1)


def load_prompts(config: PromptConfig) -> list[Prompt]:
    """The chosen prompts, spread evenly over the source; InputError in one sentence where one cannot be read."""
    source = os.path.expanduser(config.source)
    path = reference_folder() / "prompts.jsonl" if config.source == REFERENCE else Path(source)
    if path.suffix.lower() in READERS or os.path.isfile(path):
        return _from_file(path, config)
    return _from_dataset(replace(config, source=source))


def _from_file(path: Path, config: PromptConfig) -> list[Prompt]:
    prompts = [read_prompt(row.content, str(path), row.label) for row in read_rows(path)]
    if not prompts:
        raise InputError(f"{path} holds no prompts; add some")
    chosen = [prompt for prompt in prompts if prompt.split in (None, config.split)]
    if not chosen:
        raise _no_split(config, {prompt.split for prompt in prompts if prompt.split is not None})
    return [chosen[number] for number in _spread(len(chosen), config.limit)]


def _from_dataset(config: PromptConfig) -> list[Prompt]:
    name, rows = config.source, _dataset(config)
    require_content(rows.column_names, f"dataset {name!r}")
    columns = [column for column in (*CONTENT_KEYS, "domain", "document") if column in rows.column_names]
    numbers = _spread(len(rows), config.limit)
    chosen = zip(numbers, rows.select_columns(columns).select(numbers), strict=True)
    return [read_prompt(row, f"dataset {name!r}", f"row {number}", domain=name) for number, row in chosen]


def _dataset(config: PromptConfig) -> Any:
    import datasets  # takes a second to import, and files do not need it
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the InputError below reports the failure
    failures = (OSError, ValueError, RuntimeError, DatasetsError)
    try:
        rows: Any = datasets.load_dataset(config.source, split=config.split)
    except failures as error:
        splits: Any = {}
        if isinstance(error, ValueError):
            with suppress(*failures):
                splits = datasets.load_dataset(config.source)
        if splits and config.split not in splits:
            raise _no_split(config, splits) from error
        is_wrapped = isinstance(error, DatasetGenerationError)
        cause = error.__cause__ if is_wrapped and isinstance(error.__cause__, Exception) else error
        raise InputError(
            f"prompts cannot be read from {config.source!r} ({first_line(cause)}); give a file that exists, or a "
            "dataset that is cached or online"
        ) from error
    if not len(rows):
        raise InputError(f"split {config.split!r} of dataset {config.source!r} has no rows; give another")
    return rows


def _no_split(config: PromptConfig, splits: Iterable[str]) -> InputError:
    return InputError(
        f"{config.source} has no prompts of split {config.split!r}; its splits are {', '.join(sorted(splits))}"
    )


def _spread(count: int, limit: int) -> list[int]:
    """`limit` of so many numbers, or all."""
    step = max(1.0, count / limit)
    return [int(number * step) for number in range(min(limit, count))]
