"""What the README says can be typed and found."""

import re
import shlex
from pathlib import Path

import pytest
from treewright import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
FLOORS = ("controller", "runtime", "collect", "train")
# In blocks by the line, in sentences between backquotes, over several lines if need be.
IN_BLOCKS = re.findall(r"^treewright .+$", README, flags=re.MULTILINE)
IN_SENTENCES = [" ".join(line.split()) for line in re.findall(r"`(treewright [^`]+)`", README)]
# Commands that are spoken of, without the options that they need.
NAMES = {f"treewright {command}" for command in cli.COMMANDS}
COMMANDS = [line for line in dict.fromkeys(IN_BLOCKS + IN_SENTENCES) if line not in NAMES]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_is_accepted(line, capsys):
    words = shlex.split(line)[1:]
    assert cli.main([*words, "--print_config"]) == 0
    assert capsys.readouterr().out


def test_there_are_command_lines_to_check():
    assert len(IN_BLOCKS) >= 4
    assert len(IN_SENTENCES) >= 4


def documented():
    """The paths in the tree: the names of each line, and behind a folder those of the files in it."""
    block = README.split("## What is where")[1].split("```")[1]
    folder, paths = ROOT, []
    for line in block.strip().splitlines():
        indent, names, text = re.match(r"(\s*)([^\s,]+(?:, [^\s,]+)*)\s*(.*)", line).groups()
        base = folder if indent else ROOT
        paths += [base / name for name in names.split(", ")]
        if not indent and names.endswith("/"):
            folder = ROOT / names
        elif names.endswith("/"):
            paths += [base / names / name for name in re.findall(r"\w+\.py", text)]
    return paths


def test_every_path_of_the_tree_exists():
    assert [path for path in documented() if not path.exists()] == []


def test_every_module_stands_in_the_tree_where_it_lies():
    modules = {path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if path.name != "__init__.py"}
    named = {path.resolve() for path in documented()}
    # A folder's own command goes with the folder's line.
    assert {path for path in modules - named if path.name != "command.py"} == set()
