"""The Python interface: `treewright.load` and what it makes."""

import json

import pytest
import tiny
import treewright
from treewright import cli
from treewright.runtime.api import MAX_BATCH, Model
from treewright.runtime.speculation import SpeculationConfig

TREE = SpeculationConfig(dynamic=(3, 2, 4), guard=False)  # the guard goes by the clock


@pytest.fixture
def model():
    return Model(tiny.pair(), TREE)


def test_a_text_is_that_of_the_generate_command(capsys):
    options = ["--text.max_tokens", "12", "--text.seed", "5", "--text.temperature", "1.0", "--pair.threads", "1"]
    arguments = ["--prompt", "def main(", "--speculation.dynamic", "[3, 4, 12]", *options]
    assert cli.main(["generate", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    model = treewright.load(dynamic=(3, 4, 12), threads=1)
    result = model.generate("def main(", max_tokens=12, seed=5, temperature=1.0)
    assert result.text == printed["text"]
    assert result.finish_reason == printed["finish_reason"]
    assert len(result.token_ids) == printed["tokens"]
    assert result.block_efficiency == printed["tokens"] / printed["steps"] > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_prompts_side_by_side_give_what_each_gives_alone(model, temperature):
    prompts = [f"w{number} w3 w{2 * number}" for number in range(2 * MAX_BATCH + 3)]
    together = model.generate(prompts, max_tokens=9, temperature=temperature)
    assert together == [model.generate(prompt, max_tokens=9, temperature=temperature) for prompt in prompts]


def test_speculation_changes_block_efficiency_alone(model):
    plain = Model(tiny.pair(), SpeculationConfig()).generate("w1 w2", max_tokens=20)
    speculative = model.generate("w1 w2", max_tokens=20)
    assert (plain.text, plain.token_ids) == (speculative.text, speculative.token_ids)
    assert plain.block_efficiency == 1.0 < speculative.block_efficiency


def test_a_stop_string_ends_a_text(model):
    whole = model.generate("w1 w2", max_tokens=12, temperature=1.0)
    word = whole.text.split()[4]
    result = model.generate("w1 w2", max_tokens=12, temperature=1.0, stop=word)
    assert result.finish_reason == "stop"
    assert whole.text.startswith(result.text)
    assert word not in result.text


def test_no_prompts_give_no_results(model):
    assert model.generate([]) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"max_tokens": 0}, "max_tokens"), ({"temperature": -1.0}, "temperature"), ({"stop": [""]}, "empty string")],
)
def test_an_option_out_of_range_is_refused(model, options, complaint):
    with pytest.raises(treewright.InputError, match=complaint):
        model.generate("w1", **options)


def test_what_cannot_be_loaded_is_refused():
    with pytest.raises(treewright.InputError, match="dtype is one of"):
        treewright.load(dtype="int3")
    with pytest.raises(treewright.InputError, match="choose one"):
        treewright.load(selector="nowhere", dynamic=(1, 1, 1))


@pytest.mark.parametrize("option", [{"max_tokens": 2.5}, {"seed": 1.5}, {"top_k": True}])
def test_a_count_that_is_no_whole_number_is_refused(model, option):
    with pytest.raises(treewright.InputError, match=f"{next(iter(option))} is a whole number, got"):
        model.generate("w1", **option)


def test_prompts_in_anything_but_a_list_and_a_tree_of_two_sizes_are_refused(model):
    with pytest.raises(treewright.InputError, match="a text or a list of texts"):
        model.generate({"w1": 1})
    with pytest.raises(treewright.InputError, match=r"is \(depth, width, budget\), got \(1, 1\)"):
        SpeculationConfig(dynamic=(1, 1))  # type: ignore - what a caller without types may pass
