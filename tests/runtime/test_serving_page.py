"""The examples of docs/serving.md run as printed, against a real server of the reference pair with a chat template."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import chat_target

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
BLOCKS = re.findall(r"^```(python)?\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
CURLS = [block for kind, block in BLOCKS if not kind and block.startswith("curl ") and "/v1/" in block]
EXAMPLES = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a server whose target is a chat model by its template."""
    target = chat_target(tmp_path_factory.mktemp("target"))
    options = ["--port", "0", "--pair.target", str(target), "--served_model_name", "reference"]
    command = [sys.executable, "-m", "treewright.cli", "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if line.startswith("listening on "))
        yield line.split()[-1].removeprefix("http://")
        server.terminate()


def test_the_page_has_examples():
    assert len(CURLS) == 1 and len(EXAMPLES) == 3


@pytest.mark.slow
@pytest.mark.parametrize("example", CURLS)
def test_every_curl_gets_a_text(address, example):
    example = example.replace("127.0.0.1:8000", address)
    answer = subprocess.run(["bash", "-c", example], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["choices"][0]["text"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openai") is None, reason="openai is not installed; pip install openai")
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_client_prints_a_text(address, example):
    example = example.replace("127.0.0.1:8000", address)
    answer = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert answer.stdout.strip()
