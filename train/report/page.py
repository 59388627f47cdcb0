"""The report as one HTML file that needs nothing from outside: figures, how to read them, and their numbers."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 2.5rem; }
figure { margin: 1rem 0; }
svg { width: 100%; height: auto; max-height: 90vh; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, .word { text-align: left; }
summary { cursor: pointer; }
"""


def page(title: str, facts: Mapping[str, Any], sections: Iterable[str]) -> str:
    """The whole document; `facts` stand at its top."""
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<dl>{told}</dl>\n{''.join(sections)}</body>\n</html>\n"
    )


def section(title: str, how_to_read: str, *parts: str) -> str:
    """A heading, plain words on how to read what follows, then figures and tables."""
    return f"<section>\n<h2>{escape(title)}</h2>\n<p>{escape(how_to_read)}</p>\n{''.join(parts)}</section>\n"


def figure(svg: str, description: str) -> str:
    """`svg` is one element; `description` is what a screen reader says of it."""
    labelled = svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    return f"<figure>\n{labelled}\n</figure>\n"


def table(caption: str, rows: Sequence[Mapping[str, Any]], *, folded: bool = False) -> str:
    """Rows that share their keys, the keys being the headings with their units; numbers stand right."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col"{_kind(value)}>{escape(name)}</th>' for name, value in rows[0].items())
    body = "".join(
        f"<tr>{''.join(f'<td{_kind(v)}>{escape(_text(v))}</td>' for v in row.values())}</tr>\n" for row in rows
    )
    whole = (
        f'<div class="scroll"><table>\n<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )
    return f"<details><summary>{escape(caption)}</summary>\n{whole}</details>\n" if folded else whole


def interval(value: Sequence[float]) -> str:
    """A value and its 95 % interval."""
    return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"


def _kind(value: Any) -> str:
    return ' class="word"' if isinstance(value, str) and not value[:1].isdigit() else ""


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
