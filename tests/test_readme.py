"""What the README says can be typed and found."""

import re
import shlex
from pathlib import Path

import pytest
from treewright import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^treewright .+$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_is_accepted(line, capsys):
    words = shlex.split(line)[1:]
    assert cli.main([*words, "--print_config"]) == 0
    assert capsys.readouterr().out


def test_there_are_command_lines_to_check():
    assert len(COMMANDS) >= 4


def test_every_file_of_the_tree_exists():
    block = README.split("## What is where")[1].split("```")[1]
    folder = ROOT
    for line in block.strip().splitlines():
        place, rest = re.match(r"(\s*\S+(?:, \S+\.py|, \S+/)*)\s*(.*)", line).groups()
        if not line.startswith(" "):
            folder = ROOT / place.split()[0] if place.endswith("/") else ROOT
        names = place.replace(",", " ").split()
        base = folder if line.startswith(" ") else ROOT
        for name in names:
            assert (base / name).exists(), name
        if names[-1].endswith("/") and line.startswith(" "):
            for name in re.findall(r"\w+\.py", rest):
                assert (base / names[-1] / name).exists(), name


def test_every_module_is_in_the_tree():
    block = README.split("## What is where")[1].split("```")[1]
    for floor in ("controller", "runtime", "collect", "train"):
        for path in (ROOT / floor).rglob("*.py"):
            assert path.name == "__init__.py" or path.name in block or path.name == "command.py", path
