"""Above temperature 0: lengths of vLLM's chains keep the distribution, and trees keep even the text of the seed."""

from collections import Counter

import pytest
from vllm_toys import WORKER, engine, trees, write_model

pytestmark = pytest.mark.engine
SAMPLES, LENGTH, PROMPT = 6000, 3, [3, 14, 15, 92, 65]
# What two plain runs of so many samples differ by, and a margin; a wrong rule differs by several times as much.
NOISE = (0.03, 0.06, 0.13)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    sizes = {"initializer_range": 0.15}
    return write_model(folder / "target", num_layers=2, **sizes), write_model(folder / "drafter", 0.02, 2, **sizes)


def samples(llm, first_seed=0):
    from vllm import SamplingParams

    params = [
        SamplingParams(temperature=0.5, top_k=8, max_tokens=LENGTH + 5, seed=first_seed + number, ignore_eos=True)
        for number in range(SAMPLES)
    ]
    found = llm.generate([{"prompt_token_ids": PROMPT}] * SAMPLES, params, use_tqdm=False)
    return [tuple(output.outputs[0].token_ids[:LENGTH]) for output in found]


def distances(one, other):
    """Total variation of the joint distribution of the first 1, 2, ... tokens."""
    return [
        sum(abs(count) for count in difference(one, other, length).values()) / 2 / SAMPLES
        for length in range(1, LENGTH + 1)
    ]


def difference(one, other, length):
    counts = Counter(text[:length] for text in one)
    counts.subtract(Counter(text[:length] for text in other))
    return counts


@pytest.fixture(scope="module")
def stock(toys):
    """Samples of vLLM alone: its own sampler and generators."""
    with engine(toys[0], max_num_seqs=128) as llm:
        return samples(llm), samples(llm, first_seed=SAMPLES)


def test_the_noise_of_two_plain_runs(stock):
    assert all(found < most for found, most in zip(distances(*stock), NOISE, strict=True)), distances(*stock)


@pytest.mark.parametrize("method", ["draft_model", "whole"])
def test_trees_draw_from_vllms_distribution(toys, stock, method):
    target, drafter = toys
    with engine(**trees(method, target, drafter), max_num_seqs=128) as llm:
        found = distances(samples(llm), stock[0])
    assert all(each < most for each, most in zip(found, NOISE, strict=True)), found


def test_our_sampler_without_drafts_draws_from_vllms_distribution(toys, stock):
    with engine(toys[0], worker_cls=WORKER, max_num_seqs=128) as llm:
        found = distances(samples(llm), stock[0])
    assert all(each < most for each, most in zip(found, NOISE, strict=True)), found


def chains(target, drafter, draws, **settings):
    """The options of an engine that decides about the lengths of vLLM's own chains."""
    speculative = {"method": "draft_model", "model": drafter, "num_speculative_tokens": 4, "draft_sample_method": draws}
    return {"model": target, "speculative_config": speculative, "additional_config": {"treewright": settings}}


@pytest.mark.parametrize("draws", ["greedy", "probabilistic"])
def test_lengths_of_chains_keep_vllms_distribution(toys, stock, draws, monkeypatch):
    from treewright.runtime.adapters.vllm.plugin import register, withdraw
    from vllm.v1.sample import rejection_sampler

    for name in ("expand_batch_to_tokens", "apply_sampling_constraints"):  # put back behind the test
        monkeypatch.setattr(rejection_sampler, name, getattr(rejection_sampler, name))
    register()
    target, drafter = toys
    options = chains(target, drafter, draws, depth=4, width=1, path_prob=0.3, repair_sampling=True)
    with engine(**options, max_num_seqs=128) as llm:
        found = distances(samples(llm), stock[0])
        counts = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    withdraw()
    assert all(each < most for each, most in zip(found, NOISE, strict=True)), found
    drafted = counts["vllm:spec_decode_num_draft_tokens"] / counts["vllm:spec_decode_num_drafts"]
    assert 1 < drafted < 3.5
    assert counts["vllm:spec_decode_num_accepted_tokens"] > 0
