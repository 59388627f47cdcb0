"""Output of commands: progress on stderr, a readable table and one JSON document on stdout."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")
# A pipe has no width; a table is wide enough not to be folded.
PIPE_WIDTH = 160


def progress() -> Progress:
    """A progress display on stderr with the rate and the time left; without a terminal, one line when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class RateColumn(ProgressColumn):
    """How fast the items are done."""

    def render(self, task: Task) -> Text:
        mean = task.completed / task.elapsed if task.elapsed else None  # until the first items are timed one by one
        return Text(rate_text(task.finished_speed or task.speed or mean))


def rate_text(items_per_second: float | None) -> str:
    """Items per second or, of slow ones, seconds per item; empty where nothing is known yet."""
    if not items_per_second:
        return ""
    return f"{items_per_second:.1f}/s" if items_per_second >= 1 else f"{1 / items_per_second:.1f} s each"


def track(items: Iterable[Item], label: str) -> Iterator[Item]:
    """Iterate over `items` under a progress bar."""
    with progress() as display:
        yield from display.track(items, description=label)


class Terminal(Console):
    """The output of tables. A closed pipe is handled by the command line; rich alone would exit the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows that share their keys; numbers are right-aligned."""
    table = Table()
    for name, value in rows[0].items():
        # Long cells are folded, not cut off: a setting would be lost.
        table.add_column(name, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    terminal = Terminal()
    output = terminal if terminal.is_terminal else Terminal(width=PIPE_WIDTH)
    output.print(title, style="bold", highlight=False, markup=False)
    output.print(table)


def print_json(document: dict[str, Any]) -> None:
    """Print the document on one line: the last line of every command."""
    print(json.dumps(document), flush=True)
