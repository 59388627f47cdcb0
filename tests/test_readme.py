"""What the README and docs/ say can be typed, found and derived from committed numbers."""

import ast
import re
import shlex
from pathlib import Path

import figures
import pytest
import treewright
from treewright import cli
from treewright.runtime.pair_config import reference_folder
from treewright.runtime.serve.completion_protocol import CompletionRequest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SITE = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *SITE]
LOG = ROOT / "docs" / "log.md"  # history: commands and numbers as they were
TEXTS = {page: page.read_text() for page in PAGES if page != LOG}
TEXT = "\n".join(TEXTS.values())
FLOORS = ("controller", "runtime", "collect", "train")
FENCED = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
# In blocks by the line, in sentences between backquotes, over several lines if need be.
IN_BLOCKS = [line for block in FENCED.findall(TEXT) for line in block.splitlines() if line.startswith("treewright ")]
IN_SENTENCES = [" ".join(line.split()) for line in re.findall(r"`(treewright [^`]+)`", TEXT)]
# Commands that are spoken of, without the options that they need.
NAMES = {f"treewright {command}" for command in (*cli.COMMANDS, "completion")}
COMMANDS = [line for line in dict.fromkeys(IN_BLOCKS + IN_SENTENCES) if line not in NAMES]
# Of every page but those of engines and clients that are not installed for development.
ELSEWHERE = ("llamacpp.md", "serving.md", "vllm.md")
RUN_HERE = "\n".join(text for page, text in TEXTS.items() if page.name not in ELSEWHERE)
PYTHON = re.findall(r"^```python\n(.*?)^```", RUN_HERE, flags=re.MULTILINE | re.DOTALL)
# A ratio, a share, an interval or a probability to three digits, but no temperature, version or paper.
MEASURED = re.compile(r"\d+\.\d+ ?[\u00d7x%]|\[\d+\.\d+, \d+\.\d+\]|(?<![\d.=≤≥-])\b\d+\.\d{2,3}\b(?!\.)|\d ?%")

NO_MEASUREMENT = re.compile(r"\d{4}\.\d{5}|\d\.\d\.\d|Python \d\.\d+")


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_is_accepted(line, capsys):
    words = shlex.split(line)[1:]
    asked = [] if words[0] == "completion" else ["--print_config"]  # it has no options, and prints at once
    assert cli.main([*words, *asked]) == 0
    assert capsys.readouterr().out


def test_there_are_command_lines_to_check():
    assert len(IN_BLOCKS) >= 4
    assert len(IN_SENTENCES) >= 4


# Former options, one that the roof itself reads, and the first words of vLLM's own.
NOT_OF_A_COMMAND = {
    "--speculation.law", "--max_queue", "--engine", "--additional", "--speculative", "--served", "--worker", "--trees",
}  # fmt: skip


def test_every_option_in_a_sentence_is_one_of_a_command(capsys):
    known = set()
    for command in cli.COMMANDS:
        words = [command] if command != "checkpoint" else [command, "pull"]
        assert cli.main([*words, "--help"]) == 0
        known |= set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    for command in cli.GUEST_COMMANDS["vllm"]:
        assert cli.main([command, "--engine", "vllm", "--help"]) == 0
        known |= set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    named = {option for span in re.findall(r"`(--[^`]+)`", TEXT) for option in re.findall(r"--[a-z][\w.]+", span)}
    assert named - known - NOT_OF_A_COMMAND == set()


def test_every_curl_sends_a_request_that_the_server_accepts():
    bodies = re.findall(r"^curl http://127\.0\.0\.1:8000/v1/completions .*?-d '(.*?)'$", TEXT, re.MULTILINE | re.DOTALL)
    assert bodies and all(CompletionRequest.model_validate_json(body).prompt for body in bodies)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", TEXT, flags=re.MULTILINE)) - targets == set()


@pytest.fixture(scope="module")
def profiled():
    """This machine's latency table of the reference pair, of few sizes."""
    sizes = ["--sizes.repeats", "1", "--sizes.nodes", "[0, 8]", "--sizes.widths", "[1, 4]", "--sizes.contexts", "[32]"]
    assert cli.main(["profile", "--pair.threads", "1", *sizes]) == 0


@pytest.mark.parametrize("example", PYTHON, ids=lambda example: f"{len(example.splitlines())} lines")
def test_every_python_example_runs(example, profiled, capsys):
    capsys.readouterr()
    loaded = "treewright.load" in example  # which knows the pair, and its latency table, by name
    for name, role in (("BIG", "target"), ("SMALL", "drafter"), ("runs/selector", "selector")):
        example = example.replace(f'"{name}"', '"reference"' if loaded else f'"{reference_folder() / role}"')
    exec(compile(example, "example", "exec"), {})
    assert capsys.readouterr().out


def test_the_readme_example_is_of_five_lines():
    (example,) = re.findall(r"^```python\n(.*?)^```", TEXTS[README], flags=re.MULTILINE | re.DOTALL)
    assert len(example.splitlines()) <= 5
    assert set(treewright.__all__) >= {
        node.attr
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "treewright"
    }


def test_the_readme_is_one_page():
    assert len(README.read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", [README, *SITE], ids=lambda page: page.name)
def test_every_measured_number_is_what_the_committed_json_says(page):
    assert page.read_text() == figures.filled(page.read_text()), "run `make figures`"


def test_the_plot_shows_the_committed_json():
    assert figures.PLOT.read_text() == figures.plot(), "run `make figures`"


def test_every_block_of_figures_is_on_a_page():
    used = {name for text in TEXTS.values() for name, _ in figures.BLOCK.findall(text)}
    template = (figures.FIGURES / "blocks.md.j2").read_text()
    assert used == set(re.findall(r"^{%- macro (\w+)\(\)", template, flags=re.MULTILINE))


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_no_measured_number_is_outside_the_blocks(page):
    prose = re.sub(r"`[^`]*`", "", FENCED.sub("", figures.BLOCK.sub("", TEXTS[page])))
    found = [hit[0] for hit in MEASURED.finditer(NO_MEASUREMENT.sub("", prose))]
    assert [number for number in found if number not in NOT_MEASURED.get(page.name, ())] == []


# Shares that say how a measurement was made, and one that `docs/log.md` derives.
NOT_MEASURED = {"benchmarks.md": ("5 %", "2 %")}


@pytest.mark.parametrize("path", sorted(figures.FIGURES.glob("*.json")), ids=lambda path: path.stem)
def test_every_number_says_how_when_and_on_what_it_was_measured(path):
    document = figures.read(path)
    single = document.get("provenance")
    parts = [single] if single else [part for name, part in document.items() if name != "note"]
    for part in parts:
        assert part.keys() & {"command", "how"}
        assert part["date"]


def documented():
    """The paths of the map: folders and files under their floor."""
    block = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    folder, paths = ROOT, []
    for line in block.strip().splitlines():
        match = re.match(r"(\s*)([^\s,]+(?:, [^\s,]+)*)", line)
        assert match is not None, line
        indent, names = match.groups()
        base = folder if indent else ROOT
        paths += [base / name for name in names.split(", ")]
        if not indent and names.endswith("/"):
            folder = ROOT / names
    return paths


def test_every_path_of_the_map_exists():
    assert [path for path in documented() if not path.exists()] == []


def test_every_folder_of_code_is_on_the_map():
    folders = {path.parent for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    assert folders - {path.resolve() for path in documented()} - {ROOT / "collect" / "measure"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_path_in_a_sentence_exists(page):
    names = re.findall(r"`((?:controller|runtime|collect|train|configs|docs|tests)/[\w./*-]+)`", TEXTS[page])
    assert [name for name in names if not list(ROOT.glob(name))] == []


def test_every_page_is_linked_from_the_readme_and_listed_in_the_site():
    links = {README.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", TEXTS[README])}
    assert links >= set(PAGES[1:])
    listed = re.findall(r"^ +- [\w .']+: (\S+)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert {ROOT / "docs" / name for name in listed} == set(SITE)
