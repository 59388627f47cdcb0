"""The proofs under way: their length, and their numbers in docs/figures/proofs.json.

PROVE says `short` or `long`, as `make prove` and `make prove-long` do. Without it the short forms run, and nothing is
recorded.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import torch
from treewright.controller.files import atomic_write
from treewright.runtime.machine.processor import processor_name

PATH = Path(__file__).resolve().parent.parent / "docs" / "figures" / "proofs.json"
COMMANDS = {"short": "make prove", "long": "make prove-long"}
FORM = os.environ.get("PROVE", "")
assert FORM in ("", *COMMANDS), f"PROVE is short or long, got {FORM!r}"


def at_length(short: int, long: int) -> int:
    """How much is tried: the number of the form that runs."""
    return long if FORM == "long" else short


def record(name: str, claim: str, tried: str, **numbers: float | str) -> None:
    """Keep what was measured; each number is named by the words behind it, with `_` for spaces."""
    if not FORM:
        return
    known = json.loads(PATH.read_text()) if PATH.exists() else {}
    known[f"{name}, {FORM}"] = {
        "name": name,
        "claim": claim,
        "tried": tried,
        "numbers": {words.replace("_", " "): number for words, number in numbers.items()},
        "form": FORM,
        "command": COMMANDS[FORM],
        "hardware": f"{processor_name(torch.device('cpu'))}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
    }
    written = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n"
    atomic_write(PATH, written.encode())
