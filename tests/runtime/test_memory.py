"""A memory of the drafter's errors changes drafts, never texts; what it holds is a function of the text up to the
root."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast

import checkpoints
import heads
import numpy as np
import plans
import pytest
import tiny
import torch
from torch.nn.functional import normalize
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency_cache import cache_path
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.build import build_decoder
from treewright.runtime.decoder import Decoder
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.memory import carried_memory
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.speculation import MemoryOptions, SpeculationConfig
from treewright.runtime.stats import StepRecord

LIMITS = TreeLimits(max_depth=3, width=3, frontier=3, budget=8)
MEMORY = MemoryConfig(window=24, entries=6, beta=6.0, mass=0.2)
SETTINGS = [{"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.0}]


class Pausing(Selector):
    """Drafts nothing in two of five steps."""

    def begin(self, context):
        step = super().begin(context)
        if context.positions.sum() % 5 < 2:
            step.frontier = lambda tree: np.zeros((len(tree.tokens), 0), dtype=np.int64)
        return step


def decoder(memory: MemoryConfig | None = MEMORY, selector=Selector, scheme=COUPLED) -> Decoder:
    models = tiny.llama(), tiny.llama(noise=0.08)
    return tiny.decoder(*models, selector(ConfidenceScorer(), LIMITS), scheme, memory=memory)


def records(of: Decoder, request: Request) -> tuple[list[int], list[StepRecord]]:
    """The text of a request, and its steps."""
    streams = of.open_streams([request])
    return streams[0].token_ids, [*of.steps([request], streams)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("selector", "scheme"), [(Selector, COUPLED), (Pausing, FIXED)], ids=["always", "pausing"])
def test_a_memory_changes_no_text(settings, batch, selector, scheme):
    requests = tiny.requests(batch, **settings, max_tokens=30)
    texts = []
    for each in (tiny.decoder(tiny.llama()), decoder(None, selector, scheme), decoder(MEMORY, selector, scheme)):
        streams, _ = each.generate(requests)
        texts.append([stream.token_ids for stream in streams])
    assert texts[0] == texts[1] == texts[2]


def test_texts_beyond_the_drafters_context_stay_the_same():
    requests = tiny.requests(2, 0.7, max_tokens=50)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    drafter = tiny.llama(noise=0.08, positions=32)
    remembering = tiny.decoder(tiny.llama(), drafter, Selector(ConfidenceScorer(), LIMITS), memory=MEMORY)
    streams, stats = remembering.generate(requests)
    assert [stream.token_ids for stream in streams] == [stream.token_ids for stream in plain]
    assert stats.num_accepted > 0


def test_an_error_that_was_seen_once_is_not_made_again():
    """The target counts on by one; the drafter, whose states say the token alone, counts on by two."""
    target, directions = heads.counting_target()
    drafter, _ = heads.counting_target()
    tiny.network(drafter).lm_head.weight.data = directions.roll(2, dims=0)
    selector = Selector(ConfidenceScorer(), TreeLimits(max_depth=3, width=1, frontier=1, budget=3))
    prompt = [*range(tiny.VOCABULARY_SIZE), 0]
    efficiency = [
        tiny.decoder(target, drafter, selector, memory=each).generate([Request(prompt, 24, Sampling(0.0))])[1]
        for each in (None, MemoryConfig(window=tiny.VOCABULARY_SIZE, beta=30.0, mass=0.2))
    ]
    assert [stats.block_efficiency for stats in efficiency] == [1.0, 4.0]


@pytest.mark.parametrize("selector", [Selector, Pausing])
@pytest.mark.parametrize("window", [5, 64])
def test_a_memory_that_has_grown_drafts_as_one_that_is_built_from_the_text(selector, window):
    of = decoder(replace(MEMORY, window=window), selector)
    (request,) = tiny.requests(1, 0.8, max_tokens=30)
    text, steps = records(of, request)
    drafted = 0
    for step in steps:
        start = int(step.context.positions[0]) + 1 - len(request.prompt_ids)
        prefix = [*request.prompt_ids, *text[:start]]
        again = next(_steps(of, replace(request, prompt_ids=prefix, max_tokens=request.max_tokens - start)))
        np.testing.assert_array_equal(again.drafted.tokens, step.drafted.tokens)
        np.testing.assert_allclose(again.drafted.numbers, step.drafted.numbers, atol=1e-6)
        drafted += len(step.level_widths) > 0
    assert 5 < drafted <= len(steps) - (5 if selector is Pausing else 0)


def _steps(of: Decoder, request: Request) -> Iterator[StepRecord]:
    return iter(of.steps([request], of.open_streams([request])))


def test_no_request_drafts_by_what_another_has_taught():
    """Of six requests two are decoded at once; one leaves in the middle, and the next ones take its slot."""
    of = decoder()
    requests = tiny.requests(6, 0.8, max_tokens=12)
    alone = [records(of, request)[1] for request in requests]
    trees = {(int(step.context.positions[0]), *step.drafted.tokens[0].tolist()) for of_one in alone for step in of_one}
    streams, batch, waiting, compared, number = of.open_streams(requests), of.open_batch(), [*range(6)], 0, -1
    while waiting or len(batch):
        while waiting and len(batch) < 2:
            number = waiting.pop(0)
            batch.join(requests[number], streams[number])
        record = batch.step()
        if record is None:
            continue
        for slot, count in enumerate(record.drafted.num_nodes.tolist()):
            assert (int(record.context.positions[slot]), *record.drafted.tokens[slot, :count].tolist()) in trees
            compared += 1
        if compared > 8 and number == 1:
            batch.leave(streams[0])
    assert compared > 24
    assert [stream.remaining > 0 for stream in streams] == [True, *[False] * 5]


@pytest.mark.parametrize(("length", "window"), [(17, 10), (17, 40), (2 * CHUNK + 9, CHUNK + 50)])
@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_the_correction_is_the_sum_over_the_positions_before_the_root(temperature, length, window):
    """Against whole forwards of both models, with every entry of the differences."""
    target, drafter = tiny.llama(positions=4 * CHUNK), tiny.llama(noise=0.08, positions=4 * CHUNK)
    memory = MemoryConfig(window=window, entries=tiny.VOCABULARY_SIZE, eta=2.0, beta=3.0, mass=0.5)
    text, root = np.random.default_rng(2).integers(tiny.VOCABULARY_SIZE, size=length), length - 1
    sampling = Sampling(temperature)
    selector = Selector(ConfidenceScorer(), TreeLimits(max_depth=3, width=1, frontier=1, budget=3))
    of = tiny.decoder(target, drafter, selector, memory=memory)
    (step,) = records(of, Request(text.tolist(), 4, sampling))[1][:1]
    ids = torch.from_numpy(np.append(text, step.drafted.tokens[0, 1:]))[None]
    with torch.inference_mode():
        theirs, ours = (tiny.network(model)(ids, output_hidden_states=True) for model in (target, drafter))
    before, scale = slice(max(0, root - window), root), temperature or 1.0
    errors = ((theirs.logits / scale).softmax(-1) - (ours.logits / scale).softmax(-1))[0, before]
    states = normalize(ours.hidden_states[-1][0], dim=-1)
    weights = torch.exp(3.0 * (states[root:] @ states[before].T - 1))
    corrected = ours.logits[0, root:] + 2.0 * weights @ errors / (0.5 + weights.sum(-1, keepdim=True))
    sampler = TokenSampler([sampling], tiny.VOCABULARY_SIZE, torch.device("cpu"))
    log_probs = sampler.warp(corrected[None])[0].log_softmax(-1)
    drafted = step.drafted.tokens[0, 1:].tolist()
    assert len(drafted) == 3
    expected = [float(log_probs[depth, token]) for depth, token in enumerate(drafted)]
    np.testing.assert_allclose(step.drafted.log_probs[0, 1:], expected, atol=1e-5)


def test_a_model_over_static_shapes_drafts_the_same():
    (request,) = tiny.requests(1, 0.8, max_tokens=30)
    text, steps = records(decoder(), request)
    target, drafter = (
        StaticModel(tiny.network(tiny.llama(noise=noise)), tiny.VOCABULARY_SIZE) for noise in (0.0, 0.08)
    )
    again = records(tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS), memory=MEMORY), request)
    assert again[0] == text
    for mine, theirs in zip(steps, again[1], strict=True):
        np.testing.assert_array_equal(mine.drafted.tokens, theirs.drafted.tokens)


def test_where_nothing_drafts_by_hidden_states_a_memory_is_refused_in_a_sentence(tmp_path):
    memory = MemoryOptions(window=8)
    head = heads.head_pair(heads.write(tmp_path, heads.eagle_settings(), heads.eagle_weights()))
    with pytest.raises(InputError, match="is an EAGLE-3 head, and a memory of errors corrects a drafter model"):
        build_decoder(head, SpeculationConfig(dynamic=(1, 1, 1), memory=memory))
    stateless = tiny.pair()
    tiny.transformers_model(stateless.drafter, "a test").last_layer = None
    with pytest.raises(InputError, match="gives no hidden states of the drafter"):
        build_decoder(stateless, SpeculationConfig(dynamic=(1, 1, 1), memory=memory))


def test_sampled_trees_take_a_memory_too():
    config = SpeculationConfig(sampled=(2, 3, 0), scheme="hybrid", verifier="hybrid-block", memory=MemoryOptions(8))
    streams, stats = build_decoder(tiny.pair(), config).generate(tiny.requests(2, 0.8))
    assert [len(stream.token_ids) for stream in streams] == [24, 24]
    assert stats.num_accepted > 0


@pytest.mark.parametrize(
    ("options", "own", "used"),
    [
        (MemoryOptions(), None, None),
        (MemoryOptions(), MEMORY, MEMORY),
        (MemoryOptions(window=0), MEMORY, None),
        (MemoryOptions(eta=2.0), MEMORY, replace(MEMORY, eta=2.0)),
        (MemoryOptions(window=9, beta=0.0), None, MemoryConfig(window=9, beta=0.0)),
    ],
    ids=str,
)
def test_what_is_not_given_is_as_the_selector_carries_it(options, own, used):
    assert options.over(own) == used


def test_the_memory_that_a_selector_carries_is_kept_unless_another_is_asked_for(tmp_path):
    pair = tiny.pair(0.08)
    folder = checkpoints.write(tmp_path / "selector")
    carried = asdict(replace(MEMORY, eta=20.0))
    checkpoints.reseal(folder, lambda config: config.update(tokenizer_sha256=pair.tokenizer_sha256, memory=carried))
    replace(plans.TABLE, key=pair.latency_key).save(cache_path(pair.latency_key))
    (request,) = tiny.requests(1, 0.8)
    drafted = {}
    for name, options in {
        "carried": MemoryOptions(),
        "the same": MemoryOptions(window=24, entries=6, eta=20.0, beta=6.0),
        "none": MemoryOptions(window=0),
        "another": MemoryOptions(eta=1.0),
    }.items():
        config = SpeculationConfig(selector=folder, guard=False, memory=options)
        _, steps = records(build_decoder(pair, config), request)
        drafted[name] = [step.drafted.log_probs.tolist() for step in steps]
    assert drafted["carried"] == drafted["the same"]
    assert drafted["carried"] not in (drafted["none"], drafted["another"])


def test_an_engine_without_hidden_states_runs_a_selector_without_its_memory(caplog):
    pair = tiny.pair()
    tiny.transformers_model(pair.drafter, "a test").last_layer = None
    carrying = SimpleNamespace(config=replace(checkpoints.CONFIG, memory=MEMORY))
    assert carried_memory(pair, cast(Any, carrying)) is None
    assert "carries a memory of the drafter's errors, which engine transformers does not keep" in caplog.text
