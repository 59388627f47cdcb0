"""The openai client finds what it expects: its own types hold the answers, and its own errors the refusals."""

import json

import httpx
import programs
import pytest
from processes import chat_target, served
from proofs import record

pytestmark = [pytest.mark.slow, programs.installed]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    target = chat_target(tmp_path_factory.mktemp("target"))
    with served("--pair.target", target, "--served_model_name", "reference") as server:
        yield server.address


@pytest.fixture(scope="module")
def answers(address, tmp_path_factory):
    """Of all calls of the script, by name."""
    printed = programs.output(tmp_path_factory.mktemp("calls"), "python", programs.SCRIPTS / "openai_calls.py", address)
    answers = json.loads(printed.splitlines()[-1])
    record(
        "openai client",
        "completions, chats, streams, log-probabilities, schemas and errors are what the client takes them for",
        "calls of the openai client of each kind, compared with each other",
        calls=len(answers),
    )
    return answers


def test_the_model_is_listed(answers):
    assert [model["id"] for model in answers["models"]] == ["reference"]


@pytest.mark.parametrize("kind", ["completion", "chat"])
def test_a_stream_is_the_whole_answer_in_pieces(answers, kind):
    (whole,) = answers[kind]["choices"]
    *chunks, last = answers[f"{kind} stream"]
    pieces = [choice["text"] if kind == "completion" else choice["delta"]["content"] for choice in choices_of(chunks)]
    assert "".join(map(str, pieces)) == (whole["text"] if kind == "completion" else whole["message"]["content"])
    assert choices_of(chunks)[-1]["finish_reason"] == whole["finish_reason"]
    assert last["choices"] == [] and last["usage"] == answers[kind]["usage"]


def choices_of(chunks):
    return [choice for chunk in chunks for choice in chunk["choices"]]


def test_a_completion_has_log_probabilities(answers):
    (choice,) = answers["completion"]["choices"]
    scores = choice["logprobs"]
    assert "".join(scores["tokens"]) == choice["text"]
    assert all(value <= 0 for value in scores["token_logprobs"])
    for token, top in zip(scores["tokens"], scores["top_logprobs"], strict=True):
        assert token in top and len(top) in (2, 3)  # the two likeliest, and the token itself where it is neither


def test_a_chat_has_log_probabilities(answers):
    (choice,) = answers["chat"]["choices"]
    scores = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in scores) == choice["message"]["content"]
    assert [len(each["top_logprobs"]) for each in scores] == [2] * 12


def test_a_chat_of_a_schema_is_json_that_follows_it(answers):
    (choice,) = answers["schema"]["choices"]
    assert json.loads(choice["message"]["content"])["sound"] in ("moo", "baa")


def test_tools_are_refused_in_a_sentence(answers):
    error = answers["tools"]
    assert (error["kind"], error["status"], error["param"]) == ("BadRequestError", 400, "tools")
    assert error["code"] == "unsupported_parameter"
    assert error["sentence"].startswith("tools: not supported")


def test_errors_are_of_the_classes_and_codes_that_programs_look_for(answers):
    found = {name: (answers[name]["kind"], answers[name]["code"]) for name in ("model", "too long")}
    assert found == {
        "model": ("NotFoundError", "model_not_found"),
        "too long": ("BadRequestError", "context_length_exceeded"),
    }


def test_a_stream_that_the_client_leaves_is_not_decoded_to_its_end(address, answers):
    assert answers["left"]["choices"]
    samples = httpx.get(f"{address}/metrics").text
    assert "\ntreewright_request_cancelled_total 1.0" in samples
