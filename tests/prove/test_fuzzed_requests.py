"""schemathesis reads the server's schema, asks what it allows and what it forbids, and finds no fault."""

import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from processes import chat_target, served
from proofs import at_length, record
from traffic import post

pytestmark = [pytest.mark.slow, programs.installed]
PATHS = "^/(v1|tokenize|detokenize|health|ready|version)"
RUNTIME = Path(__file__).resolve().parents[1] / "runtime"


def number_of(words, printed):
    (number,) = re.findall(rf"(\d+) {words}", printed)
    return int(number)


def test_no_request_that_the_schema_leads_to_finds_a_fault(tmp_path):
    target = chat_target(tmp_path / "target")
    with served("--pair.target", target, "--served_model_name", "reference", "--access_log", "false") as (_, address):
        expected = post(address).json()["choices"]
        printed = programs.output(
            tmp_path, "schemathesis", "run", f"{address}/openapi.json", "--include-path-regex", PATHS, "--phases",
            "examples,coverage,fuzzing", "--seed", 1, "--max-examples", at_length(20, 700), "--request-timeout", 300,
            "--continue-on-failure",
        )  # fmt: skip
        assert post(address).json()["choices"] == expected
    cases = number_of("generated", printed)
    assert number_of("passed", printed) == cases
    record(
        "B1",
        "whatever is asked is answered as the schema says, or refused in OpenAI's envelope",
        "schemathesis over all endpoints, its examples, borders and fuzzing",
        cases=cases,
        faults=0,
    )


def test_requests_that_were_thought_of_are_refused_in_the_envelope():
    files = [*RUNTIME.glob("test_serve*.py"), RUNTIME / "test_server.py"]
    chosen = ["-q", "-p", "no:cacheprovider", "-k", "refused or envelope or named or no_spelling or without_a_key"]
    tests = subprocess.run([sys.executable, "-m", "pytest", *chosen, *files], capture_output=True, text=True, check=True)
    record(
        "B1 by hand",
        "bad requests that somebody has thought of are refused in the envelope",
        "the tests of refusals in tests/runtime",
        cases=number_of("passed", tests.stdout),
        faults=0,
    )
