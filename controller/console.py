"""What commands show: progress on stderr, a readable table and one JSON document on stdout."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Item = TypeVar("Item")
# A pipe has no width of its own, and a table must not be folded for it.
PIPE_WIDTH = 160


def progress() -> Progress:
    """A progress display on stderr with the time left; without a terminal, one line when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def track(items: Iterable[Item], label: str) -> Iterator[Item]:
    """Iterate over `items` under a progress bar."""
    with progress() as display:
        yield from display.track(items, description=label)


class Terminal(Console):
    """Where tables go; who has stopped reading is for the roof to answer, not for rich, which would exit by itself."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows that share their keys; numbers stand right."""
    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    terminal = Terminal()
    output = terminal if terminal.is_terminal else Terminal(width=PIPE_WIDTH)
    output.print(title, style="bold", highlight=False, markup=False)
    output.print(table)


def print_json(document: dict[str, Any]) -> None:
    """Print the document on one line: the last line of every command."""
    print(json.dumps(document), flush=True)
