"""Drafting without a model, or beside one: the text stays plain, and what has been seen before is drafted."""

from dataclasses import replace

import checkpoints
import numpy as np
import pytest
import tiny
from trees import context
from treewright.controller.checkpoint import save_checkpoint
from treewright.controller.contract import COUPLED
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.latency_cache import cache_path
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.fused import FusedScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.build import build_decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.drafters.lookup import LookupDrafter, read_datastore
from treewright.runtime.drafters.ngrams.datastore import Datastore
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.speculation import SpeculationConfig

LIMITS = TreeLimits(max_depth=5, width=2, frontier=3, budget=9)
SETTINGS = [{"temperature": 0.0}, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 1.2}]


def grown(texts, paths, datastore=None):
    """The trees of one step, every child of `paths` drafted that can be."""
    drafter = LookupDrafter(datastore)
    drafter.open()
    for text in texts:
        drafter.join(np.array(text), 100)
    sampler = TokenSampler([Sampling()] * len(texts), tiny.VOCABULARY_SIZE, tiny.llama().device)
    step = Selector(RankScorer.from_paths(paths), LIMITS).begin(context(len(texts)))
    tree = DraftTree.from_roots(np.array([text[-1] for text in texts]))
    while (frontier := step.frontier(tree)).shape[1]:
        wider = drafter.expand(tree, frontier, 2, sampler)
        if wider.tokens.shape == tree.tokens.shape:
            break
        tree = wider
    return tree


def tokens_of(tree, row):
    return tree.tokens[row, : tree.num_nodes[row]].tolist()


def generated(requests, texts):
    """A datastore of whole texts."""
    return Datastore.of([[*request.prompt_ids, *text.token_ids] for request, text in zip(requests, texts, strict=True)])


def test_what_followed_the_longest_context_comes_first():
    text = [1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]  # behind (1, 2, 3) came 4, behind (2, 3) also 5
    assert tokens_of(grown([text], [(0,), (1,)]), 0) == [3, 4, 5]


def test_a_copied_suffix_unrolls_level_by_level():
    text = [7, 8, 5, 6, 4, 7, 8]
    assert tokens_of(grown([text], [(0,), (0, 0), (0, 0, 0)]), 0) == [8, 5, 6, 4]


def test_nothing_is_drafted_where_nothing_repeats():
    tree = grown([[1, 2, 3], [1, 1]], [(0,), (1,)])
    assert (tokens_of(tree, 0), tokens_of(tree, 1)) == ([3], [1, 1])


def test_a_datastore_is_asked_where_the_text_knows_nothing():
    datastore = Datastore.of([[1, 2, 3, 30, 31], [5, 6, 7]])
    tree = grown([[9, 2, 3], [3, 8, 3], [0, 31], [0, 7]], [(0,), (0, 0)], datastore)
    assert tokens_of(tree, 0) == [3, 30, 31]
    assert tokens_of(tree, 1) == [3, 8, 3]  # its own text knows what follows
    assert tokens_of(tree, 2) == [31]  # the next text of the datastore does not follow the one before
    assert tokens_of(tree, 3) == [7]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("has_datastore", [False, True])
def test_looked_up_drafts_generate_the_plain_text(settings, batch, has_datastore):
    requests = tiny.requests(batch, **settings, max_tokens=60)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    datastore = generated(requests, plain) if has_datastore else None
    selector = Selector(ConfidenceScorer(), LIMITS)
    decoder = tiny.decoder(tiny.llama(), selector=selector, drafter=LookupDrafter(datastore))
    texts, stats = decoder.generate(requests)
    assert [text.token_ids for text in texts] == [text.token_ids for text in plain]
    assert stats.num_accepted > 0
    if has_datastore:
        assert stats.block_efficiency > 1.5


def test_a_datastore_is_fused_with_the_trees_of_a_model():
    """One more child under every node, where the text itself knows nothing."""
    datastore = Datastore.of([[1, 2, 30, 31, 32, 33]])
    drafter = LanguageModelDrafter(tiny.llama(seed=5), COUPLED, ngrams=True, datastore=datastore)
    drafter.open()
    for text in ([9, 1, 2], [4, 5, 6]):
        drafter.join(np.array(text), 100)
    sampler = TokenSampler([Sampling()] * 2, tiny.VOCABULARY_SIZE, tiny.llama().device)
    tree = DraftTree.from_roots(np.array([2, 6]))
    for token in (30, 31, 32):
        node = tree.num_nodes[0] - 1  # the last child is the datastore's
        tree = drafter.expand(tree, np.array([[node], [-1]]), 1, sampler)
        assert tree.tokens[0, tree.num_nodes[0] - 1] == token
    assert tree.num_nodes.tolist() == [7, 1]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_trees_fused_with_a_datastore_generate_the_plain_text_in_fewer_steps(settings):
    requests = tiny.requests(3, **settings, max_tokens=60)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    steps = []
    for known in (None, generated(requests, plain)):
        selector = Selector(FusedScorer((0.4, 0.2, 0.2)), replace(LIMITS, ngrams=True))
        drafter = LanguageModelDrafter(tiny.llama(seed=5), COUPLED, ngrams=True, datastore=known)
        texts, stats = tiny.decoder(tiny.llama(), selector=selector, drafter=drafter).generate(requests)
        assert [text.token_ids for text in texts] == [text.token_ids for text in plain]
        steps.append(stats.num_steps)
    assert steps[1] < steps[0]


@pytest.mark.parametrize("drafts_ngrams", [True, False])
def test_a_selector_looks_up_in_text_files_where_it_drafts_ngrams(drafts_ngrams, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "notes.txt").write_text("w1 w2 w3 w4 w5 w6")
    pair = tiny.pair()
    limits = TreeLimits(max_depth=2, width=3, budget=4, ngrams=drafts_ngrams)
    config = replace(checkpoints.CONFIG, tokenizer_sha256=pair.tokenizer_sha256, limits=limits)
    save_checkpoint(tmp_path / "selector", config, checkpoints.files(), "")
    table = LatencyTable(pair.latency_key, (1,), (64,), ((1e-9,),), (1,), (((1e-9,),),), (0,), (((1e9,),),))
    table.save(cache_path(pair.latency_key))
    asked = SpeculationConfig(selector=tmp_path / "selector", datastore=(tmp_path / "notes.txt",))
    if drafts_ngrams:
        texts, _ = build_decoder(pair, asked).generate(tiny.requests(2, 0.8))
        plain, _ = tiny.decoder(tiny.llama()).generate(tiny.requests(2, 0.8))
        assert [text.token_ids for text in texts] == [text.token_ids for text in plain]
    else:
        with pytest.raises(InputError, match="drafts no n-grams"):
            build_decoder(pair, asked)


def test_a_configuration_looks_up_in_text_files(tmp_path):
    (tmp_path / "notes.txt").write_text("w1 w2 w3 w4 w5 w6")
    asked = {"tree": "[(0,), (0, 0)]", "lookup": True, "datastore": (tmp_path / "notes.txt",)}
    decoder = build_decoder(tiny.pair(), SpeculationConfig(**asked))
    requests = tiny.requests(2, 0.8)
    texts, _ = decoder.generate(requests)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    assert [text.token_ids for text in texts] == [text.token_ids for text in plain]


def test_a_datastore_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"missing\.txt cannot be read"):
        read_datastore([tmp_path / "missing.txt"], tiny.words())


def test_a_datastore_without_text_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"empty.txt holds no text"):
        read_datastore([tmp_path / "empty.txt"], tiny.words())
