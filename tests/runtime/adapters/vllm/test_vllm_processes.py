"""The same texts where vLLM runs in processes of its own: engine core, HTTP server, two workers of one model."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from vllm_toys import BUDGET, WORKER, engine, generate, prompts, trees, write_model

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[5]
WARM = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 40}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    # Two heads of keys and values, so that two workers have one each.
    sizes = {"num_key_value_heads": 2}
    return write_model(folder / "target", **sizes), write_model(folder / "drafter", noise=0.03, **sizes)


@pytest.fixture(scope="module")
def expected(toys):
    with engine(toys[0], worker_cls=WORKER) as llm:
        return generate(llm, prompts(6), **WARM)


def environment(**others):
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "VLLM_ENABLE_V1_MULTIPROCESSING": "1"} | others


def in_processes(options) -> list[list[int]]:
    """Texts of an engine whose core is a process of its own."""
    code = (
        "import json, sys\n"
        "from vllm import LLM, SamplingParams\n"
        "if __name__ == '__main__':\n"
        "    options, asked, sampling = json.load(sys.stdin)\n"
        "    params = [SamplingParams(seed=n, ignore_eos=True, **sampling) for n in range(len(asked))]\n"
        "    llm = LLM(**options)\n"
        "    found = llm.generate([{'prompt_token_ids': one} for one in asked], params, use_tqdm=False)\n"
        "    print(json.dumps([list(one.outputs[0].token_ids) for one in found]))\n"
    )
    given = {"dtype": "float32", "enforce_eager": True, "max_model_len": 256, "block_size": 32, "max_num_seqs": 8}
    text = json.dumps([given | options, prompts(6), WARM])
    run = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, env=environment(), check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("method", ["draft_model", "whole"])
def test_an_engine_core_in_its_own_process_gives_the_same_texts(toys, expected, method):
    target, drafter = toys
    assert in_processes(trees(method, target, drafter)) == expected


def test_chains_that_vllm_looks_up_in_the_text_are_verified_too(toys, expected):
    lookup = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    assert in_processes({"model": toys[0], "worker_cls": WORKER, "speculative_config": lookup}) == expected


@pytest.mark.parametrize("method", ["draft_model", "whole"])
def test_compiled_models_give_the_same_texts(toys, expected, method):
    target, drafter = toys
    assert in_processes(trees(method, target, drafter) | {"enforce_eager": False}) == expected


@pytest.mark.parametrize("method", ["draft_model", "whole"])
def test_two_workers_of_one_model_give_the_texts_of_one(toys, expected, method):
    target, drafter = toys
    options = trees(method, target, drafter) | {"tensor_parallel_size": 2}
    assert in_processes(options) == expected


@contextmanager
def server(target, drafter, **settings):
    """The address of `treewright serve --engine vllm`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = {
        "vllm.target": target, "vllm.drafter": drafter, "vllm.budget": BUDGET, "vllm.max_model_len": 256, "port": port,
    } | {f"trees.{name}": value for name, value in settings.items()}  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "treewright.cli", "serve", "--engine", "vllm", *words]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, process.communicate()[0][-3000:]
            try:
                urlopen(f"{url}/health", timeout=1)
                break
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_the_server_answers_with_the_same_texts_and_counts_its_trees(toys, expected):
    target, drafter = toys
    with server(target, drafter) as url:
        for seed, (prompt, text) in enumerate(zip(prompts(6), expected, strict=True)):
            body = {"model": target, "prompt": prompt, "seed": seed, "ignore_eos": True, "return_token_ids": True}
            asked = Request(
                f"{url}/v1/completions", json.dumps(body | WARM).encode(), {"Content-Type": "application/json"}
            )
            answer = json.load(urlopen(asked, timeout=120))
            assert answer["choices"][0]["token_ids"] == text
        metrics = urlopen(f"{url}/metrics").read().decode()
    counted = {
        line.split("{")[0].split()[0]: float(line.split()[-1]) for line in metrics.splitlines() if line[0] != "#"
    }
    assert counted["vllm:spec_decode_num_accepted_tokens_total"] > 0
    assert counted["treewright:nodes_total"] == counted["vllm:spec_decode_num_draft_tokens_total"] > 0
    assert counted["treewright:tokens_total"] == 6 * WARM["max_tokens"]
