"""Files of settings that are damaged: a server refuses them in a sentence with exit code 2, or runs as they say."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkpoints import damaged
from proofs import at_length, record
from treewright import cli

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
VALUES = (None, -1, 0, 10**9, 1e400, 0.5, True, "", "none", "\N{SNOWMAN}", [], [None], {}, {"a": 1}, [[[1]]])


def wrong(settings, choice):
    """The settings with one value that is another, one name that is another, or one name more or less."""
    settings = json.loads(json.dumps(settings))
    part = choice.choice([settings, *(value for value in settings.values() if isinstance(value, dict))])
    name = choice.choice(list(part))
    match choice.randrange(4):
        case 0 | 1:
            part[name] = choice.choice(VALUES)
        case 2:
            part[f"{name}s"] = part.pop(name)
        case _:
            part["another"] = choice.choice(VALUES)
    return yaml.safe_dump(settings).encode()


def has_one_cause(text):
    """Whether one line names the cause; what the parser of options says of the place may follow."""
    causes = [line for line in text.splitlines() if line.startswith(("treewright serve: ", "error: "))]
    return len(causes) == 1 and "Traceback" not in text


def test_damaged_settings_are_refused_in_a_sentence_or_served(tmp_path, profiled, capsys):
    count, choice, generator = at_length(60, 200), random.Random(5), np.random.default_rng(5)
    capsys.readouterr()
    options = ["--port", "0", "--pair.threads", "1", "--print_config"]
    assert cli.main(["serve", "--config", str(ROOT / "configs" / "serve.yaml"), *options]) == 0
    intact = capsys.readouterr().out
    files = [tmp_path / f"{number}.yaml" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(wrong(yaml.safe_load(intact), choice) if number % 2 else damaged(intact.encode(), generator))
    forking = [sys.executable, ROOT / "tests" / "forking.py", *files]
    printed = subprocess.run(forking, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    outcomes = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    assert len(outcomes) == count
    refused = [text for code, text in outcomes if code == 2]
    served = [text for code, text in outcomes if code == 0]
    assert [(code, text) for code, text in outcomes if code not in (0, 2)] == []
    assert all(has_one_cause(text) for text in refused) and all("listening on" in text for text in served)
    record(
        "damaged settings",
        "damaged settings are refused with exit code 2 and a line that says why, without a traceback, or are served",
        f"{count} files of all settings of `serve`, half with a bit, a run or the end damaged, half with a wrong value "
        "or name",
        refused=len(refused),
        served=len(served),
        otherwise=count - len(refused) - len(served),
    )
