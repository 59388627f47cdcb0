"""The commands with `--engine vllm`: what they cannot do is refused before vLLM starts."""

from types import SimpleNamespace

import pytest
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency import LatencyTable
from treewright.runtime.adapters.vllm.launch import VllmConfig, tree_options
from treewright.runtime.adapters.vllm.serve import require_readable
from treewright.runtime.adapters.vllm.settings import VllmSettings


@pytest.mark.parametrize(
    ("vllm", "trees", "sentence"),
    [
        ({}, {"selector": "reference", "latency": "nowhere.json"}, r"no latency table can be read from nowhere\.json"),
        ({}, {"guard": True, "latency": "nowhere.json"}, r"no latency table can be read from nowhere\.json"),
        ({"target": "./nowhere"}, {}, r"there is no folder '\./nowhere'; give one that holds a model, or a hub id"),
        ({"drafter": "./nowhere"}, {}, r"there is no folder '\./nowhere'; give one that holds a model, or a hub id"),
        ({"budget": 1}, {"tree": "[(0,), (1,)]"}, r"treewright\.tree has 2 nodes, but num_speculative_tokens"),
    ],
)
def test_the_server_reads_the_files_of_its_settings_first(vllm, trees, sentence):
    with pytest.raises(InputError, match=sentence):
        require_readable(VllmConfig(**vllm), VllmSettings(**trees))


def save_table(file, engine):
    LatencyTable({"engine": engine}, (1,), (1,), ((1.0,),), (1,), (((1.0,),),), (0,), (((1.0,),),)).save(file)


def test_prices_of_another_engine_are_warned_about(tmp_path, caplog):
    for engine in ("vllm", "transformers"):
        save_table(tmp_path / engine, engine)
        require_readable(VllmConfig(), VllmSettings(selector="reference", latency=str(tmp_path / engine)))
    (record,) = caplog.records
    assert f"{tmp_path / 'transformers'} was measured under the engine 'transformers'" in record.message


def test_a_damaged_selector_is_refused_by_the_server(tmp_path):
    file = tmp_path / "latency.json"
    save_table(file, "vllm")
    (tmp_path / "selector").mkdir()
    (tmp_path / "selector" / "config.json").write_text("{")
    require_readable(VllmConfig(), VllmSettings(selector="reference", latency=str(file)))
    with pytest.raises(InputError):
        require_readable(VllmConfig(), VllmSettings(selector=str(tmp_path / "selector"), latency=str(file)))


def test_a_second_name_for_the_drafter_is_refused():
    with pytest.raises(InputError, match=r"trees\.drafter is what vllm\.drafter is here, got 'other'; give the latter"):
        tree_options(VllmConfig(), VllmSettings(drafter="other"))


@pytest.mark.parametrize(
    ("vllm", "sizes", "sentence"),
    [
        ({"drafter": None}, {}, r"vllm\.drafter is none, but the steps that are measured draft"),
        ({"max_model_len": 512}, {}, r"sizes\.contexts has 512, but texts have at most 512 tokens"),
        ({}, {"nodes": (0,)}, r"the most of sizes\.nodes is between 1 and 4096, got 0"),
    ],
)
def test_a_profile_that_could_not_be_measured_is_refused(vllm, sizes, sentence):
    from treewright.collect.measure.vllm.profile import VllmSizes, measure

    with pytest.raises(InputError, match=sentence):
        measure(VllmConfig(**vllm), VllmSizes(**sizes))


PLAIN = {
    "seed": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 4, "min_tokens": 0, "ignore_eos": True,
    "stop_token_ids": None, "all_stop_token_ids": (), "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "repetition_penalty": 1.0, "logit_bias": None, "allowed_token_ids": None, "bad_words": None,
    "structured_outputs": None, "thinking_token_budget": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("of_state", "of_params", "is_plain"),
    [
        ({}, {}, True),
        ({}, {"thinking_token_budget": 3}, False),
        ({"lora_request": "an adapter"}, {}, False),
        ({"prompt_embeds": "rows"}, {}, False),
        ({"prompt_token_ids": None, "prompt_embeds": "rows"}, {}, False),
    ],
)
def test_a_text_is_recorded_only_where_its_tokens_and_sampling_say_all(of_state, of_params, is_plain):
    from treewright.runtime.adapters.vllm.texts import text_of

    state = {
        "req_id": "r", "prompt_token_ids": [1, 2], "prompt_embeds": None, "lora_request": None, "output_token_ids": [],
    }  # fmt: skip
    params = SimpleNamespace(**PLAIN | of_params)
    assert text_of(SimpleNamespace(sampling_params=params, **state | of_state), 0, 8).is_plain == is_plain
