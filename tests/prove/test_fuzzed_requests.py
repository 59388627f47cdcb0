"""schemathesis reads the server's schema, asks what it allows and what it forbids, and finds no fault."""

import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from processes import served, tiny_options
from proofs import at_length, record
from traffic import post

pytestmark = [pytest.mark.slow, programs.installed]
PATHS = "^/(v1|tokenize|detokenize|health|ready|version)"
QUIET = ("--max_batch", 16, "--access_log", "false")
RUNTIME = Path(__file__).resolve().parents[1] / "runtime"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a server whose texts soon end, so that the time goes into requests."""
    with served(*tiny_options(tmp_path_factory.mktemp("tiny")), *QUIET) as server:
        yield server.address


# Which data are made and checked, and of how many examples per endpoint.
RUNS = {
    "requests": (
        ("--phases", "examples,coverage,fuzzing", "--max-examples", at_length(10, 1000)),
        {"SCHEMATHESIS_HOOKS": programs.SCRIPTS / "surely_taken.py"},
    ),
    "grammars and trees": (
        ("--phases", "fuzzing", "--max-examples", at_length(15, 500), "--exclude-checks", "positive_data_acceptance"),
        {},
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_no_request_that_the_schema_leads_to_finds_a_fault(address, tmp_path, kind):
    options, variables = RUNS[kind]
    expected = post(address).json()["choices"]
    printed = programs.output(
        tmp_path, "schemathesis", "run", f"{address}/openapi.json", "--include-path-regex", PATHS, "--seed", 1,
        "--request-timeout", 300, "--continue-on-failure", *options, **variables,
    )  # fmt: skip
    ((generated, passed),) = re.findall(r"(\d+) generated, (\d+) passed", printed)
    faults = int(generated) - int(passed)
    assert faults == 0
    assert post(address).json()["choices"] == expected
    record(
        f"fuzzed {kind}",
        "whatever is asked is answered as the schema says, or refused in OpenAI's envelope",
        "schemathesis over all endpoints"
        + (", grammars and trees left out" if variables else "; no grammar and too large a tree may be refused"),
        cases=int(generated),
        faults=faults,
    )


def test_requests_that_were_thought_of_are_refused_in_the_envelope():
    files = [*RUNTIME.glob("test_serve*.py"), RUNTIME / "test_server.py"]
    chosen = ["-q", "-p", "no:cacheprovider", "-k", "refused or envelope or named or no_spelling or without_a_key"]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, *files], capture_output=True, text=True, check=True
    )
    (passed,) = re.findall(r"(\d+) passed", tests.stdout)
    record(
        "bad requests",
        "bad requests that somebody has thought of are refused in the envelope",
        "the tests of refusals in tests/runtime",
        cases=int(passed),
    )
