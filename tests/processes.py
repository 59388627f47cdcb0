"""A real server process, and folders of models for it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tiny
import torch
from treewright.runtime.pair_config import reference_folder

# Latency tables are those of the tests that start it.
SERVE = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
tables = os.environ["XDG_CACHE_HOME"]
import conftest
os.environ["XDG_CACHE_HOME"] = tables
from treewright import cli
sys.exit(cli.main(["serve", "--port", "0", "--pair.threads", "1", *sys.argv[1:]]))
"""
POSITIONS = 16384  # room for the longest text that may be asked for
TREE = "[(0,), (0, 0)]"
TEMPLATE = "{% for message in messages %}# {{ message.role }}: {{ message.content }}\n{% endfor %}# assistant:"


class Served(NamedTuple):
    process: subprocess.Popen[str]
    address: str


def start(*arguments: object, tree: str = TREE) -> Served:
    """The process, once it listens; it drafts `tree`, or nothing of its own accord where that is empty."""
    words = [*arguments, *(["--speculation.tree", tree] if tree else [])]
    command = [sys.executable, "-c", SERVE, str(Path(__file__).parent), *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    printed = []
    for line in process.stderr:
        if line.startswith("listening on "):
            return Served(process, line.split()[-1])
        printed.append(line)
    raise AssertionError(f"the server has not started: {''.join(printed)}")


@contextmanager
def served(*arguments: object, tree: str = TREE) -> Iterator[Served]:
    """A process that is killed in the end, if it still runs."""
    server = start(*arguments, tree=tree)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def chat_target(folder: Path) -> Path:
    """The reference target in this folder, a chat model by its template."""
    shutil.copytree(reference_folder() / "target", folder, dirs_exist_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return folder


def tiny_target(folder: Path) -> Path:
    """The tiny target in this folder, a chat model that takes next to nothing to compute; its texts soon end."""
    model = tiny.llama(dtype=torch.float32, positions=POSITIONS).model
    model.config.eos_token_id = model.generation_config.eos_token_id = tiny.VOCABULARY_SIZE - 1
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    model.save_pretrained(folder)
    tokenizer = tiny.words().fast
    tokenizer.eos_token = f"w{tiny.VOCABULARY_SIZE - 1}"
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def tiny_options(folder: Path) -> list[object]:
    """Of a server of the tiny target under the name that the requests of these tests give."""
    target = tiny_target(folder)
    return ["--pair.target", target, "--pair.drafter", target, "--served_model_name", "reference"]
