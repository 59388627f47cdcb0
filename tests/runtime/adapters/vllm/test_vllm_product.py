"""The reference pair and its shipped selector inside vLLM: one checkpoint, one text, one trace format."""

import json

import pytest
from vllm_toys import WORKER, engine, generate, trees

pytestmark = pytest.mark.engine
LENGTH = 40


@pytest.fixture(scope="module")
def pair():
    from treewright.runtime.pair import PairConfig, load_pair

    return load_pair(PairConfig())


@pytest.fixture(scope="module")
def asked(pair):
    from treewright.runtime.pair_config import reference_folder

    rows = [json.loads(line) for line in (reference_folder() / "prompts.jsonl").read_text().splitlines()]
    return [pair.encode(row["prompt"]) for row in rows[:8]]


@pytest.fixture
def latency(tmp_path):
    from treewright.controller.pricing.latency import LatencyTable

    nodes = (0, 1, 2, 4, 8, 12)
    verify = tuple(12.0 + 0.4 * count for count in nodes)
    table = LatencyTable({}, (1,), (1,), ((3.0,),), (1, 8), (((3.0, 3.5),),), nodes, ((verify,),))
    table.save(tmp_path / "latency.json")
    return str(tmp_path / "latency.json")


def folders():
    from treewright.runtime.pair_config import reference_folder

    return str(reference_folder() / "target"), str(reference_folder() / "drafter")


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("method", ["whole", "draft_model"])
def test_the_shipped_selector_shapes_trees_that_keep_the_text_of_our_own_loop(
    pair, asked, latency, method, temperature
):
    from treewright.runtime.build import plain_decoder
    from treewright.runtime.request import Request
    from treewright.runtime.sampling import Sampling

    requests = [
        Request(prompt, LENGTH, Sampling(temperature, seed=seed), ignore_end=True) for seed, prompt in enumerate(asked)
    ]
    streams, _ = plain_decoder(pair).generate(requests)
    options = trees(method, *folders(), selector="reference", latency=latency)
    with engine(**options, max_model_len=512) as llm:
        texts = generate(llm, asked, temperature=temperature, max_tokens=LENGTH)
        (counts,) = llm.collective_rpc("treewright_counters")
    assert texts == [list(stream.token_ids) for stream in streams]
    assert counts["tokens"] > 2 * counts["steps"]


def test_a_selector_of_another_tokenizer_is_refused(latency, tmp_path):
    from vllm_toys import write_model

    toy = write_model(tmp_path / "toy")
    with (
        pytest.raises(ValueError, match="whose tokenizer differs from that of these models; train one"),
        engine(**trees("whole", toy, toy, selector="reference", latency=latency)),
    ):
        pass


def test_a_grammar_is_followed_by_chains(asked):
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    def run(llm):
        grammar = StructuredOutputsParams(regex=r"(def|class) [a-z_]{3,12}\([a-z, ]{0,20}\):")
        params = SamplingParams(temperature=0.7, seed=5, max_tokens=30, structured_outputs=grammar)
        prompts = [{"prompt_token_ids": prompt} for prompt in asked]
        return [output.outputs[0].token_ids for output in llm.generate(prompts, params, use_tqdm=False)]

    with engine(folders()[0], worker_cls=WORKER, max_model_len=512) as llm:
        expected = run(llm)
    with engine(**trees("draft_model", *folders()), max_model_len=512) as llm:
        assert run(llm) == expected
        (counts,) = llm.collective_rpc("treewright_counters")
    assert counts["chains"] > 0
    assert counts["tokens"] > counts["steps"]


def test_recorded_texts_are_labelled_without_a_tie(pair, asked, tmp_path):
    from treewright.collect.labels.positions import label_text
    from treewright.collect.relabel import stored_texts
    from treewright.controller.contract import COUPLED

    options = trees("whole", *folders(), record=str(tmp_path / "texts"))
    options["worker_cls"] = "treewright.collect.vllm_worker.RecordingWorker"
    with engine(**options, max_model_len=512) as llm:
        texts = generate(llm, asked[:3], temperature=0.7, max_tokens=20)
        generate(llm, asked[:2], temperature=0.7, presence_penalty=1.0, max_tokens=10)
        assert llm.collective_rpc("treewright_recorded") == [{"recorded": 3, "left_out": 2}]
    source = stored_texts(tmp_path / "texts")
    rows = source.open(pair)(range(3))
    by_prompt = {tuple(prompt): text for prompt, text in zip(asked, texts, strict=False)}
    for row in rows:
        prompt = row.tokens[: row.prompt_length]
        assert row.tokens[row.prompt_length :] == by_prompt[tuple(prompt)]
        assert label_text(pair.target, pair.drafter, row, COUPLED, 4, 1).num_ties == 0


def test_a_latency_table_is_measured_inside_vllm(tmp_path):
    from treewright.collect.measure.vllm.profile import VllmSizes, measure
    from treewright.runtime.adapters.vllm.launch import VllmConfig

    sizes = VllmSizes(batches=(1, 2), contexts=(16,), widths=(1, 2), nodes=(0, 1, 4), repeats=2)
    for method, widths in (("whole", (1, 2)), ("draft_model", (1,))):
        table = measure(VllmConfig(method=method, max_model_len=128), sizes)
        assert (table.batches, table.widths, table.nodes) == ((1, 2), widths, (0, 1, 4))
        assert table.key["engine"] == "vllm"
