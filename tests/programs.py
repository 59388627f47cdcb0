"""Programs that nobody here wrote, in the environment that `make .venv-clients/.ready` makes for them."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv-clients" / "bin"
SCRIPTS = Path(__file__).parent / "prove" / "clients"  # what the programs read and run
installed = pytest.mark.skipif(not BIN.is_dir(), reason="the clients are not installed; make .venv-clients/.ready")


def start(folder: Path, name: str, *arguments: object, **variables: object) -> subprocess.Popen[str]:
    """A program under way in this folder, offline; `variables` are of its environment."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {variable: str(value) for variable, value in variables.items()}
    return subprocess.Popen(
        [str(BIN / name), *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(folder: Path, name: str, *arguments: object, **variables: object) -> str:
    """What a program printed that ended well."""
    program = start(folder, name, *arguments, **variables)
    printed, _ = program.communicate()
    assert program.returncode == 0, printed[-8000:]
    return printed
