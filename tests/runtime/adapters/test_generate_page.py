"""What the page on generate shows runs as it stands, on the reference pair."""

import re
from pathlib import Path

import pytest
import torch
from treewright import cli
from treewright.runtime.pair_config import reference_folder

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "engines" / "generate.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
NAMES = {"BIG": reference_folder() / "target", "SMALL": reference_folder() / "drafter", "runs/selector": "reference"}


@pytest.fixture(scope="module")
def profiled():
    """This machine's latency table of the reference pair, of few sizes."""
    sizes = ["--sizes.repeats", "1", "--sizes.nodes", "[0, 8]", "--sizes.widths", "[1, 4]", "--sizes.contexts", "[32]"]
    assert cli.main(["profile", "--pair.threads", "1", *sizes]) == 0


@pytest.mark.parametrize("number", range(3))
def test_an_example_of_the_page_runs(number, profiled, capsys):
    capsys.readouterr()
    assert len(EXAMPLES) == 3
    torch.set_num_threads(1)
    example = EXAMPLES[number]
    for name, stands_for in NAMES.items():
        example = example.replace(f'"{name}"', f'"{stands_for}"')
    exec(example, {})
    assert "def main(" in capsys.readouterr().out
