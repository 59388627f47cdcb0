"""guidellm measures a server process without an error, and what speculation brings by its clock."""

import json

import numpy as np
import programs
import pytest
from processes import chat_target, served
from proofs import at_length, record
from scipy.stats import bootstrap
from treewright.runtime.pair_config import reference_folder

pytestmark = [pytest.mark.slow, programs.installed]
TOKENS = 32


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return chat_target(tmp_path_factory.mktemp("target"))


def benchmark(folder, target, address, *options, **backend):
    """The one benchmark of guidellm's report."""
    backend = {"kind": "openai_http", "target": address, "model": "reference"} | backend
    programs.output(
        folder, "guidellm", "run", "--backend", json.dumps(backend), "--tokenizer", f"kind=hf_auto,model={target}",
        "--output", "kind=json,path=report.json", "--disable-console-interactive", *options,
    )  # fmt: skip
    (found,) = json.loads((folder / "report.json").read_text())["benchmarks"]
    return found


def test_its_own_texts_by_concurrent_streams_give_no_error(target, tmp_path):
    streams, requests = 4, at_length(40, 400)
    options = ("--pair.target", target, "--served_model_name", "reference", "--access_log", "false")
    with served(*options) as (_, address):
        found = benchmark(
            tmp_path, target, address, "--profile", f"kind=concurrent,streams={streams}", "--constraint",
            f"kind=max_requests,count={requests}", "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=16",
        )  # fmt: skip
    totals = found["metrics"]["request_totals"]
    assert (totals["errored"], totals["incomplete"]) == (0, 0)
    assert totals["successful"] == requests
    assert {each["output_tokens"] for each in found["requests"]["successful"]} == {16}
    record(
        "guidellm",
        "its chats, in parts, without an end of text and with usage in every chunk, give no error",
        f"guidellm's concurrent profile: {streams} streams, {requests} chats of 32 and 16 tokens",
        chats=totals["successful"],
        errors=totals["errored"],
        ms_to_the_first_token_half_of_the_time=round(
            found["metrics"]["time_to_first_token_ms"]["successful"]["median"]
        ),
        ms_between_tokens_half_of_the_time=round(found["metrics"]["inter_token_latency_ms"]["successful"]["median"], 1),
    )


def seconds_of(folder, target, address, speculation):
    """Of every request, one at a time, by its prompt."""
    body = {"speculation": speculation, "temperature": 0, "seed": 1}
    found = benchmark(
        folder, target, address, "--profile", "kind=synchronous", "--data", "kind=json_file,path=prompts.jsonl",
        "--constraint", f"kind=max_requests,count={len((folder / 'prompts.jsonl').read_text().splitlines())}",
        request_format="/v1/completions", extras={"body": body},
    )  # fmt: skip
    assert found["metrics"]["request_totals"]["errored"] == 0
    texts = {json.loads(each["request_args"])["body"]["prompt"]: each for each in found["requests"]["successful"]}
    assert {each["output_tokens"] for each in texts.values()} == {TOKENS}
    return {prompt: each["request_latency"] for prompt, each in texts.items()}


def test_speculation_costs_no_more_than_it_brings(target, tmp_path, profiled):
    rounds, prompts = at_length(1, 4), at_length(16, 36)
    lines = (reference_folder() / "prompts.jsonl").read_text().splitlines()[:prompts]
    asked = [{"prompt": json.loads(line)["prompt"], "output_tokens_count": TOKENS} for line in lines]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked))
    options = ("--speculation.selector", "reference", "--prefix_tokens", 0, "--access_log", "false")
    seconds = {"off": [], "auto": []}
    with served(*options, tree="") as (_, address):
        for number in range(rounds):
            for speculation in list(seconds)[:: (-1) ** number]:
                by_prompt = seconds_of(tmp_path, target, address, speculation)
                seconds[speculation].append([by_prompt[each["prompt"]] for each in asked])
    off, auto = (np.log(seconds[name]).mean(axis=0) for name in ("off", "auto"))
    interval = bootstrap((off - auto,), np.mean, rng=0).confidence_interval
    record(
        "speed",
        "decoding with the shipped selector is at 0.98 of the speed without, or above",
        f"guidellm's synchronous profile over {prompts} prompts of {TOKENS} tokens at T = 0, {rounds} times with "
        'the field `"speculation": "off"` and as often with `"auto"`, in alternating order before one server',
        x_plain=round(float(np.exp((off - auto).mean())), 3),
        at_least_in_95_of_100=round(float(np.exp(interval.low)), 3),
        at_most=round(float(np.exp(interval.high)), 3),
    )
