"""Medusa heads: the text stays plain, and every level is one head's scheme of the last hidden state."""

import heads
import numpy as np
import pytest
import tiny
import torch
from heads import medusa_weights, write_medusa
from torch.nn.functional import silu
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.build import build_decoder, tree_decoder
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.speculation import SpeculationConfig

LIMITS = TreeLimits(max_depth=3, width=3, frontier=3, budget=10)
CHAIN = Selector(RankScorer.from_paths([(0,), (0, 0), (0, 0, 0)]), TreeLimits(3, 1, 1, 3))


@pytest.fixture
def folder(tmp_path):
    return write_medusa(tmp_path / "head", medusa_weights())


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 0.8, "top_p": 0.95}], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
def test_random_heads_generate_the_plain_text(folder, settings, batch, scheme):
    pair, requests = heads.head_pair(folder), tiny.requests(batch, **settings)
    texts, stats = tree_decoder(pair, scheme, Selector(ConfidenceScorer(), LIMITS)).generate(requests)
    plain, _ = tiny.decoder(pair.target).generate(requests)
    assert [text.token_ids for text in texts] == [text.token_ids for text in plain]
    assert stats.num_kept > 0


def test_a_text_does_not_depend_on_the_requests_that_join_and_leave(folder):
    pair, generator = heads.head_pair(folder, tiny.llama(positions=2 * CHUNK)), np.random.default_rng(2)
    asked = [
        Request(generator.integers(tiny.VOCABULARY_SIZE, size=length).tolist(), 5 + 3 * number, Sampling(0.8, seed=3))
        for number, length in enumerate([1, 4, CHUNK + 30, 9, 2, CHUNK // 2])
    ]
    decoder = tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS))
    streams, coming = decoder.open_streams(asked), list(zip(asked, strict=True))
    batch, num_mixed = decoder.open_batch(), 0
    while coming or len(batch):
        if coming and len(batch) < 3:
            (request,) = coming.pop(0)
            batch.join(request, streams[asked.index(request)])
        record = batch.step()
        if record is not None:
            grew = record.drafted.num_nodes > 1
            num_mixed += bool(grew.any() and not grew.all())
    assert num_mixed > 0
    plain, _ = tiny.decoder(pair.target).generate(asked)
    assert [stream.token_ids for stream in streams] == [text.token_ids for text in plain]


def test_every_node_of_a_level_has_the_children_that_one_head_ranks_first(folder):
    pair, weights = heads.head_pair(folder), medusa_weights()
    decoder, requests = tree_decoder(pair, FIXED, Selector(ConfidenceScorer(), LIMITS)), tiny.requests(3, 0.0)
    streams, num_compared = decoder.open_streams(requests), 0
    generated = [[] for _ in requests]
    for record in decoder.steps(requests, streams):
        tree = record.drafted
        for row, request in enumerate(requests):
            text = [*request.prompt_ids, *generated[row]]
            with torch.inference_mode():
                states = tiny.network(pair.target)(torch.tensor([text[:-1]]), output_hidden_states=True).hidden_states
            last = states[-1][0, -1]
            for node in np.unique(tree.parents[row, 1 : tree.num_nodes[row]]):
                depth, hidden = int(tree.depths[row, node]), last
                for layer in range(2):
                    name = f"{depth}.{layer}.linear"
                    hidden = hidden + silu(weights[f"{name}.weight"] @ hidden + weights[f"{name}.bias"])
                scheme = (weights[f"{depth}.2.weight"] @ hidden).log_softmax(-1)
                children = tree.parents[row] == node
                assert tree.tokens[row, children].tolist() == scheme.topk(3).indices.tolist()
                assert tree.log_probs[row, children] == pytest.approx(scheme.topk(3).values.numpy(), abs=1e-5)
                num_compared += 1
        generated = [list(stream.token_ids) for stream in streams]
        if max(map(len, generated)) == 24:
            break  # one leaves, and the others may change their slots
    assert num_compared > 50


def test_heads_that_know_the_targets_distribution_are_always_believed(tmp_path):
    """All find every token equally likely, so that coupled drafts are the target's own draws."""
    target, weights = tiny.llama(), medusa_weights()
    target.model.lm_head.weight.data.zero_()
    for head in range(3):
        weights[f"{head}.2.weight"] *= 0.0
    pair = heads.head_pair(write_medusa(tmp_path / "head", weights), target)
    texts, stats = tree_decoder(pair, COUPLED, CHAIN).generate(tiny.requests(2, 1.0, max_tokens=25))
    assert len({*texts[0].token_ids}) > 10
    assert stats.num_steps == 14  # one token alone, then 24 in blocks of 4, for two requests


def test_head_d_predicts_the_token_d_positions_after_the_root(tmp_path):
    """The target counts. Head d adds d + 1 to the last token that the target has read."""
    (target, directions), weights = heads.counting_target(), medusa_weights()
    weights = {name: 0.0 * weight for name, weight in weights.items()}
    weights |= {f"{head}.2.weight": directions.roll(head + 2, dims=0) for head in range(3)}
    pair = heads.head_pair(write_medusa(tmp_path / "head", weights), target)
    (text,), stats = tree_decoder(pair, FIXED, CHAIN).generate([Request([5, 6], 21, Sampling(temperature=0.0))])
    assert text.token_ids == [(7 + index) % tiny.VOCABULARY_SIZE for index in range(21)]
    assert stats.num_steps == 6


def test_heads_decode_by_their_folder(folder, tmp_path):
    pair = heads.head_pair(folder)
    tiny.network(pair.target).save_pretrained(tmp_path / "target")
    tiny.words().fast.save_pretrained(tmp_path / "target")
    config = PairConfig(str(tmp_path / "target"), folder, dtype="float64")
    pair, requests = load_pair(config, heads=True), tiny.requests(3, 0.8)
    decoder = build_decoder(pair, SpeculationConfig(tree="[(0,), (1,), (0, 0), (0, 0, 0)]", guard=False))
    texts, stats = decoder.generate(requests)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    assert [text.token_ids for text in texts] == [text.token_ids for text in plain]
    assert stats.num_kept > 0
    with pytest.raises(InputError, match="is a Medusa head, which drafts in"):
        load_pair(config)


def test_a_tree_deeper_than_the_heads_is_refused(folder):
    with pytest.raises(InputError, match=r"drafts 3 tokens ahead, but the tree asked for is 4 deep"):
        build_decoder(heads.head_pair(folder), SpeculationConfig(tree="[(0,), (0, 0), (0, 0, 0), (0, 0, 0, 0)]"))
    with pytest.raises(InputError, match="is 4 deep"):
        build_decoder(heads.head_pair(folder), SpeculationConfig(dynamic=(4, 2, 8)))


def test_nothing_grows_behind_the_last_head(tmp_path):
    pair = heads.head_pair(write_medusa(tmp_path / "head", medusa_weights(1, 1), 1, 1))
    requests = tiny.requests(2, 0.8)
    decoder = tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS))
    depths = {int(record.drafted.depths.max()) for record in decoder.steps(requests, decoder.open_streams(requests))}
    assert depths == {0, 1}


@pytest.mark.parametrize(
    ("weights", "counts", "complaint"),
    [
        (medusa_weights(2), (3, 2), r"lacks the weight '2\.0\.linear\.bias' \(5 in all\)"),
        (medusa_weights(3), (2, 2), r"has a weight '2\.0\.linear\.bias' that"),
        (medusa_weights(), (0, 2), r"are at least 1, got \[0, 2\]"),
        (
            medusa_weights() | {"0.2.weight": torch.zeros(40, 48)},
            (3, 2),
            r"'0\.2\.weight' is 40 x 48, but .* ask for 40 x 32",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_heads_are_refused_in_a_sentence(tmp_path, weights, counts, complaint):
    folder = write_medusa(tmp_path / "head", weights, *counts)
    with pytest.raises(InputError, match=complaint):
        heads.head_pair(folder)


def test_pickled_heads_are_not_read(folder, tmp_path):
    file = tmp_path / "head" / "medusa_lm_head.safetensors"
    file.rename(file.with_suffix(".pt"))
    with pytest.raises(InputError, match=r"pickled ones \(\.bin, \.pt\) are never read"):
        heads.head_pair(folder)
