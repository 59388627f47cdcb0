"""Inside vLLM, whatever is drafted, a request gets the text that it gets without drafts."""

from typing import Any

import pytest
import torch
from vllm_toys import WORKER, engine, generate, prompts, trees, write_head, write_model

pytestmark = pytest.mark.engine
METHODS = ("draft_model", "whole", "eagle", "eagle3")
WARM = {"temperature": 0.8, "top_p": 0.95}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    drafter = write_model(folder / "drafter", noise=0.03)
    heads = {kind: write_head(folder / kind, kind) for kind in ("eagle", "eagle3")}
    return {"target": write_model(folder / "target"), "draft_model": drafter, "whole": drafter, **heads}


@pytest.fixture(scope="module")
def stock(toys):
    """Greedy texts of stock vLLM, without our worker."""
    with engine(toys["target"]) as llm:
        return generate(llm, prompts())


@pytest.fixture(scope="module")
def plain(toys):
    """What our worker generates without drafts, by sampling settings."""
    texts = {}
    with engine(toys["target"], worker_cls=WORKER) as llm:
        for name, sampling in SAMPLINGS.items():
            texts[name] = generate(llm, prompts(), **sampling)
    return texts


SAMPLINGS = {
    "greedy": {},
    "warm": WARM,
    "top_k": {"temperature": 1.3, "top_k": 5},
    "penalties": {**WARM, "presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.2},
    "greedy with penalties": {"presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.2},
    "bad words": {**WARM, "bad_words": ["w3", "w7 w9", "w21"]},
    "some tokens only": {**WARM, "allowed_token_ids": list(range(0, 128, 3))},
    "no end before": {**WARM, "min_tokens": 25, "stop_token_ids": list(range(0, 128, 9)), "ignore_eos": False},
}


@pytest.mark.parametrize("method", METHODS)
def test_trees_give_the_texts_of_stock_vllm(toys, stock, plain, method):
    with engine(**trees(method, toys["target"], toys[method])) as llm:
        assert generate(llm, prompts()) == stock == plain["greedy"]
        (counts,) = llm.collective_rpc("treewright_counters")
    assert counts["nodes"] > 3 * counts["steps"]
    assert counts["tokens"] > counts["steps"]


@pytest.mark.parametrize("method", ["draft_model", "whole", "eagle3"])
def test_under_every_sampling_setting_trees_give_the_text_of_the_seed(toys, plain, method):
    with engine(**trees(method, toys["target"], toys[method])) as llm:
        for name, sampling in SAMPLINGS.items():
            assert generate(llm, prompts(), **sampling) == plain[name], name


def test_a_warm_text_is_not_the_greedy_one_and_other_seeds_give_others(plain):
    assert len({str(texts) for texts in plain.values()}) == len(plain)


@pytest.mark.parametrize("method", METHODS)
def test_texts_stay_the_same_through_chunks_prefix_hits_and_preemption(toys, method):
    long = prompts(count=12, longest=120)
    small: dict[str, Any] = {
        "max_num_batched_tokens": 64,
        "num_gpu_blocks_override": 34,
        "max_num_seqs": 12,
        "max_model_len": 320,
    }
    with engine(toys["target"], max_model_len=320) as llm:
        expected = generate(llm, long, max_tokens=150)
    with engine(**trees(method, toys["target"], toys[method]) | small) as llm:
        assert generate(llm, long, max_tokens=150) == expected
        for _ in range(2):  # what was read for the first time is found the second time
            assert generate(llm, long[:2], max_tokens=150) == expected[:2]
        counts = counted(llm)
    assert counts["vllm:num_preemptions"] > 0
    assert counts["vllm:prefix_cache_hits"] > 0
    assert counts["vllm:spec_decode_num_accepted_tokens"] > 0


def test_drawn_texts_stay_the_same_through_chunks(toys, plain):
    with engine(**trees("whole", toys["target"], toys["whole"]), max_num_batched_tokens=64) as llm:
        assert generate(llm, prompts(), **WARM) == plain["warm"]


def counted(llm):
    """vLLM's own counters."""
    return {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}


def test_a_text_may_fill_the_whole_context(toys):
    asked = {"max_tokens": 200}
    with engine(toys["target"], max_model_len=96) as llm:
        expected = generate(llm, prompts(longest=40), **asked)
    for method in METHODS:
        with engine(**trees(method, toys["target"], toys[method]), max_model_len=96) as llm:
            assert generate(llm, prompts(longest=40), **asked) == expected, method
    assert {len(text) + len(prompt) for text, prompt in zip(expected, prompts(longest=40), strict=True)} == {96}


def without_moves(monkeypatch):
    monkeypatch.setattr("treewright.runtime.adapters.vllm.attention.CacheOrder.move", lambda *_: None)


def with_positions_in_a_row(monkeypatch):
    monkeypatch.setattr(
        "treewright.runtime.adapters.vllm.runner.depths_of", lambda parents: list(range(len(parents) + 1))
    )


def with_a_causal_mask(monkeypatch):
    monkeypatch.setattr(
        "treewright.runtime.adapters.vllm.runner.ancestors_of",
        lambda parents: torch.ones((len(parents) + 1,) * 2, dtype=torch.bool).tril(),
    )


@pytest.mark.parametrize("broken", [without_moves, with_positions_in_a_row, with_a_causal_mask])
def test_without_one_of_its_parts_the_texts_are_others(toys, stock, monkeypatch, broken):
    with engine(**trees("whole", toys["target"], toys["whole"])) as llm:
        broken(monkeypatch)
        texts = generate(llm, prompts())
    assert sum(text == of_stock for text, of_stock in zip(texts, stock, strict=True)) <= 1


@pytest.mark.parametrize("mode", ["raw_logprobs", "processed_logprobs", "processed_logits"])
def test_log_probabilities_are_those_of_plain_decoding(toys, mode):
    from vllm import SamplingParams

    def run(llm):
        params = SamplingParams(temperature=0.7, seed=3, max_tokens=40, logprobs=3, prompt_logprobs=1, ignore_eos=True)
        asked = [{"prompt_token_ids": prompt} for prompt in prompts()]
        return [output for output in llm.generate(asked, params, use_tqdm=False)]

    def rows(found):
        return [[(token, one.rank, one.logprob) for token, one in row.items()] for row in found]

    with engine(toys["target"], worker_cls=WORKER, logprobs_mode=mode) as llm:
        expected = run(llm)
    with engine(**trees("draft_model", toys["target"], toys["draft_model"]), logprobs_mode=mode) as llm:
        found = run(llm)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.outputs[0].token_ids == theirs.outputs[0].token_ids
        for one, other in (
            (ours.outputs[0].logprobs, theirs.outputs[0].logprobs),
            (ours.prompt_logprobs[1:], theirs.prompt_logprobs[1:]),
        ):
            for row, of_plain in zip(rows(one), rows(other), strict=True):
                assert [entry[:2] for entry in row] == [entry[:2] for entry in of_plain]
                torch.testing.assert_close(
                    [entry[2] for entry in row], [entry[2] for entry in of_plain], atol=1e-4, rtol=0
                )


def test_thresholds_change_while_the_engine_runs(toys, stock):
    with engine(**trees("draft_model", toys["target"], toys["draft_model"])) as llm:
        assert generate(llm, prompts()) == stock
        (before,) = llm.collective_rpc("treewright_counters")
        (settings,) = llm.collective_rpc("treewright_change", args=({"path_prob": 0.3},))
        assert settings["path_prob"] == 0.3
        assert generate(llm, prompts()) == stock
        (after,) = llm.collective_rpc("treewright_counters")
        with pytest.raises(ValueError, match="depth is fixed when the engine starts"):
            llm.collective_rpc("treewright_change", args=({"depth": 2},))
    assert after["nodes"] - before["nodes"] < before["nodes"] / 2


def test_a_static_tree_is_the_largest_shape(toys, stock):
    shape = "[(0,), (1,), (0, 0), (0, 1), (0, 0, 0)]"
    with engine(**trees("draft_model", toys["target"], toys["draft_model"], tree=shape)) as llm:
        assert generate(llm, prompts()) == stock
        (counts,) = llm.collective_rpc("treewright_counters")
    assert 4 * counts["steps"] < counts["nodes"] <= 5 * counts["steps"]
