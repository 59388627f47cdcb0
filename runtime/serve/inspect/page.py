"""The page: its parts in one document, and a policy by which a browser runs and applies nothing but these parts."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

SCRIPTS = ("elements.js", "tree.js", "charts.js", "steps.js", "page.js")


class Page(NamedTuple):
    html: str
    headers: dict[str, str]


@cache
def inspect_page() -> Page:
    """The document and its headers."""
    folder = Path(__file__).parent / "page"
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    html = (folder / "page.html").read_text(encoding="utf-8")
    html = html.replace("/* page.css */", style).replace("/* scripts */", script)
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # Text can become markup or script nowhere on the page, not even by mistake.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return Page(html, headers)


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
