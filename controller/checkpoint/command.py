"""The `checkpoint` command: inspect and verify a checkpoint folder, exchange it over the hub."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..console import print_json, print_table
from ..learned.scorer import INPUT_NAME
from .folder import Checkpoint
from .hub import download
from .saving import require_replaceable
from .shapes import ShapesCheckpoint, is_shapes


def inspect(folder: Path) -> None:
    """Print what a checkpoint is: pair, scheme, heads, limits, features, scores, how it was made.

    Args:
        folder: Checkpoint folder
    """
    checkpoint = _read(folder)
    config = {name: value for name, value in asdict(checkpoint.config).items() if name != "provenance"}
    facts = {
        **config,
        "heads": sorted(checkpoint.golden.keys() - {INPUT_NAME}),
        "weights": sum(value.size for value in checkpoint.weights.values()),
    }
    facts |= {"metrics": checkpoint.metrics, "versions": checkpoint.config.provenance.get("versions")}
    print_table(f"Checkpoint {folder}", [{"fact": name, "value": _shown(value)} for name, value in facts.items()])
    print_json({**_report("inspect", folder, checkpoint), **facts, "provenance": checkpoint.config.provenance})


def verify(folder: Path) -> None:
    """Check a checkpoint folder: hashes, values, graph, golden vectors; exit code 2 where a check fails.

    Args:
        folder: Checkpoint folder
    """
    print_json(_report("verify", folder, _read(folder)))


def push(folder: Path, repo: str, private: bool = False) -> None:
    """Verify a checkpoint folder and upload it to a hub repository, which is created if missing.

    Args:
        folder: Checkpoint folder
        repo: Hub id, as user/name
        private: Make a new repository private
    """
    checkpoint = _read(folder)
    commit = checkpoint.push_to_hub(repo, private=private)
    print_json({**_report("push", folder, checkpoint), "repo": repo, "commit": commit})


def pull(repo: str, out: Path, revision: str | None = None) -> None:
    """Download one commit of a checkpoint from the hub and verify it before it becomes a folder.

    Args:
        repo: Hub id, as user/name
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        revision: Commit, tag or branch; the default branch where none is given
    """
    require_replaceable(out)
    fetched = download(repo, revision)
    checkpoint = _read(fetched)
    checkpoint.save_pretrained(out)
    print_json({**_report("pull", out, checkpoint), "repo": repo, "commit": fetched.name})


ACTIONS = {"inspect": inspect, "verify": verify, "push": push, "pull": pull}


def _read(folder: Path) -> Checkpoint | ShapesCheckpoint:
    """A checkpoint of either kind."""
    return ShapesCheckpoint.read(folder) if is_shapes(folder) else Checkpoint.read(folder)


def _report(action: str, folder: Path, checkpoint: Checkpoint | ShapesCheckpoint) -> dict[str, Any]:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in checkpoint.files.items()}
    golden = {"golden_vectors": len(next(iter(checkpoint.golden.values()))), "golden_miss": checkpoint.golden_miss}
    return {"command": f"checkpoint {action}", "folder": str(folder), "verified": True, **golden, "sha256": hashes}


def _shown(value: Any) -> str:
    """One line of a table; untrusted strings go through JSON, which escapes them."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
