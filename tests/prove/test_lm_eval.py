"""lm-eval scores and generates by the server as by transformers itself, with speculation as without."""

import json

import httpx
import programs
import pytest
import torch
from processes import TREE, chat_target, served
from proofs import record
from transformers import AutoModelForCausalLM, AutoTokenizer
from treewright.runtime.pair_config import reference_folder

pytestmark = [pytest.mark.slow, programs.installed]
TASKS = ("prove_likelihood", "prove_rolling", "prove_until")
NUM_DOCUMENTS = 6
# Of sums of float64 logarithms, between one forward over a text and several.
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return chat_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def documents():
    """The beginnings of prompts, with what follows; no beginning ends in white space, which lm-eval would move."""
    lines = (reference_folder() / "prompts.jsonl").read_text().splitlines()[:NUM_DOCUMENTS]
    texts = [json.loads(line)["prompt"] for line in lines]
    lengths = [len(text[:60].rstrip()) for text in texts]
    return [
        {"context": text[:length], "continuation": text[length:120]}
        for text, length in zip(texts, lengths, strict=True)
    ]


def evaluated(folder, target, address, documents, *, model, tasks, options=()):
    """What lm-eval was answered, by task and document."""
    folder.mkdir()
    (folder / "documents.json").write_text(json.dumps(documents))
    arguments = f"model=reference,base_url={address},tokenizer_backend=huggingface,tokenizer={target}"
    programs.output(
        folder, "lm_eval", "run", "--model", model, "--model_args", arguments, "--tasks", ",".join(tasks),
        "--include_path", programs.SCRIPTS / "tasks", "--output_path", "results", "--log_samples", *options,
    )  # fmt: skip
    answered = {}
    for task in tasks:
        (path,) = folder.glob(f"results/**/samples_{task}_*.jsonl")
        samples = sorted(map(json.loads, path.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        answered[task] = [sample["resps"][0][0] for sample in samples]
    return answered


@pytest.fixture(scope="module")
def speculating(target):
    options = ("--pair.target", target, "--served_model_name", "reference", "--pair.dtype", "float64")
    with served(*options, tree=TREE) as server:
        yield server.address


@pytest.fixture(scope="module")
def answered(speculating, target, documents, tmp_path_factory):
    """By the server that speculates, and by one that does not."""
    folder = tmp_path_factory.mktemp("evaluated")
    ask = {"model": "local-completions", "tasks": TASKS}
    with_trees = evaluated(folder / "trees", target, f"{speculating}/v1/completions", documents, **ask)
    options = ("--pair.target", target, "--served_model_name", "reference", "--pair.dtype", "float64")
    with served(*options, tree="") as (_, address):
        return with_trees, evaluated(folder / "plain", target, f"{address}/v1/completions", documents, **ask)


def test_scores_and_texts_are_the_same_with_speculation_and_without(answered):
    with_trees, plain = answered
    assert with_trees == plain
    assert [len(answers) for answers in plain.values()] == [NUM_DOCUMENTS] * 3


class Direct:
    """The same scores by transformers alone."""

    def __init__(self, target):
        self.tokenizer = AutoTokenizer.from_pretrained(target)
        self.model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float64)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def score(self, ids, num_given):
        """The logarithm of the probability of the tokens behind the first `num_given`."""
        with torch.inference_mode():
            log_probs = self.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        return sum(float(log_probs[place - 1, ids[place]]) for place in range(num_given, len(ids)))


def test_scores_are_those_of_transformers(answered, target, documents):
    direct, differences = Direct(target), []
    prefix = direct.tokenizer.bos_token_id or direct.tokenizer.eos_token_id
    for row, document in enumerate(documents):
        given, whole = direct.ids(document["context"]), direct.ids(document["context"] + document["continuation"])
        expected = {
            "prove_likelihood": direct.score(given + whole[len(given) :], len(given)),  # as lm-eval puts them together
            "prove_rolling": direct.score([prefix, *whole], 1),
        }
        for task, score in expected.items():
            assert score < 0
            answer = answered[0][task][row]
            differences.append(abs(float(answer[0] if isinstance(answer, list) else answer) - score))
    assert max(differences) < TOLERANCE
    record(
        "lm-eval",
        "its log-likelihoods are those of transformers, and the same with speculation and without",
        f"tasks of kinds {', '.join(TASKS).replace('prove_', '')} over {NUM_DOCUMENTS} documents, in float64",
        scores_compared=len(differences),
        nats_of_difference_at_most=f"{max(differences):.1g}",
        answers_that_speculation_changed=sum(
            with_trees != plain
            for task in TASKS
            for with_trees, plain in zip(answered[0][task], answered[1][task], strict=True)
        ),
    )


def test_a_chat_is_evaluated(speculating, target, documents, tmp_path):
    ask = {"model": "local-chat-completions", "tasks": TASKS[2:], "options": ["--apply_chat_template"]}
    texts = evaluated(tmp_path / "chat", target, f"{speculating}/v1/chat/completions", documents, **ask)
    expected = [
        httpx.post(
            f"{speculating}/v1/chat/completions",
            json={
                "model": "reference",
                "messages": [{"role": "user", "content": document["context"]}],
                "max_tokens": 24,
                "temperature": 0,
                "stop": ["\n\n"],
            },
        ).json()["choices"][0]["message"]["content"]
        for document in documents
    ]
    assert texts == {"prove_until": expected}
