"""Decoding and labelling through llama.cpp are what they are through transformers."""

import json

import gguf_models
import pytest
import tiny
from treewright import cli
from treewright.collect.labels.envelopes import EnvelopeConfig, grow_envelopes
from treewright.collect.labels.positions import label_text
from treewright.collect.trace.schema import TextRow
from treewright.controller.contract import COUPLED
from treewright.controller.errors import InputError
from treewright.runtime.build import build_decoder
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.pair import load_pair
from treewright.runtime.pair_config import PairConfig
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.speculation import SpeculationConfig

pytestmark = pytest.mark.engine


@pytest.fixture
def theirs():
    return [TransformersModel(gguf_models.network(noise), gguf_models.VOCABULARY_SIZE) for noise in (0.0, 0.02)]


@pytest.fixture
def pair():
    return load_pair(PairConfig(*gguf_models.files(), threads=1))


def text(pair, temperature=0.8, max_tokens=20):
    prompt = list(range(40, 60))
    (stream,), _ = build_decoder(pair, SpeculationConfig()).generate(
        [Request(prompt, max_tokens, Sampling(temperature, seed=3), ignore_end=True)]
    )
    tokens = [*prompt, *stream.token_ids]
    return TextRow("1", "code", "d", tokens, len(prompt), temperature, 0, 1.0, 3, 0, None, None)


def test_labels_are_those_of_transformers(pair, theirs):
    row = text(pair)
    ours, others = (
        label_text(target, drafter, row, COUPLED, 3, 2) for target, drafter in ((pair.target, pair.drafter), theirs)
    )
    assert ours.num_ties == others.num_ties == 0
    for mine, other in zip(ours.positions, others.positions, strict=True):
        assert mine.emitted == other.emitted
        assert mine.candidates == other.candidates
        assert mine.target_log_prob == pytest.approx(other.target_log_prob, abs=1e-3)


@pytest.mark.parametrize(("frontier", "max_depth"), [(4, 3), (12, 6)])
def test_envelopes_are_those_of_transformers_however_many_roots_fit(frontier, max_depth, pair, theirs):
    config = EnvelopeConfig(texts=1, frontier=frontier, max_depth=max_depth)
    ours, others = (grow_envelopes(model, text(pair), COUPLED, 3, config) for model in (pair.drafter, theirs[1]))
    assert [row.position for row in ours] == [row.position for row in others]
    assert [row.tokens for row in ours] == [row.tokens for row in others]
    assert [row.expanded for row in ours] == [row.expanded for row in others]


def test_envelopes_with_more_leaves_than_there_are_sequences_are_refused(pair):
    with pytest.raises(InputError, match=r"may have 316 leaves, and the drafter's engine holds 256; lower"):
        grow_envelopes(pair.drafter, text(pair), COUPLED, 3, EnvelopeConfig(frontier=64, max_depth=6))


def test_trees_with_more_leaves_than_a_text_has_sequences_are_refused(pair):
    with pytest.raises(InputError, match="verifies trees of at most 32 leaves, and the trees asked for may have 40"):
        build_decoder(pair, SpeculationConfig(dynamic=(4, 8, 40)))


def test_the_text_is_that_of_transformers(pair, theirs):
    row = text(pair)
    request = Request(row.tokens[: row.prompt_length], 20, Sampling(0.8, seed=3))
    (stream,), _ = tiny.decoder(theirs[0]).generate([request])
    assert row.tokens[row.prompt_length :] == stream.token_ids


def test_the_command_generates_the_plain_text_with_a_tree(capsys):
    target, drafter = gguf_models.files()
    words = ["generate", "--pair.target", target, "--pair.drafter", drafter, "--pair.threads", "1", "--prompt", "abc"]
    answers = []
    for options in ([], ["--speculation.dynamic", "[3, 3, 8]"]):
        assert cli.main([*words, "--text.max_tokens", "12", *options]) == 0
        answers.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert answers[0]["text"] == answers[1]["text"]
    assert answers[1]["steps"] < answers[0]["steps"] == 12
