"""What the README and docs/ say can be typed and found."""

import re
import shlex
from pathlib import Path

import pytest
from treewright import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LOG = ROOT / "docs" / "log.md"  # speaks of commands as they were
TEXT = "\n".join(page.read_text() for page in PAGES if page != LOG)
FLOORS = ("controller", "runtime", "collect", "train")
# In blocks by the line, in sentences between backquotes, over several lines if need be.
IN_BLOCKS = re.findall(r"^treewright .+$", TEXT, flags=re.MULTILINE)
IN_SENTENCES = [" ".join(line.split()) for line in re.findall(r"`(treewright [^`]+)`", TEXT)]
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
    block = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_the_readme():
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[0].read_text())
    assert {ROOT / link for link in links} == set(PAGES[1:])
