"""What the sampled schemes append to a tree, against the drafter's own rows by a plain forward."""

import itertools

import numpy as np
import pytest
import tiny
import torch
import trees
from scipy.stats import power_divergence
from treewright.controller.contract import GREEDY_PLUS_ONE, HYBRID, IID_PATHS, SAMPLED_SCHEMES, WITHOUT_REPLACEMENT
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter, distinct
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.schemes.sampled import append_draws
from treewright.runtime.target import Target
from treewright.runtime.verification import get_verifier

SHAPES = {"iid-paths": (3, 1, 2), "without-replacement": (3, 1, 2), "greedy-plus-one": (3, 1, 2), "hybrid": (3, 3, 0)}
VERIFIERS = {
    "iid-paths": "specinfer",
    "without-replacement": "rrsw",
    "greedy-plus-one": "greedy-plus-one",
    "hybrid": "hybrid-block",
}
# Drawn fairly, a count falls below this once in ten thousand seeds; the seeds here are fixed.
LEAST_P_VALUE = 1e-4


def drafted(scheme, prompts, samplings):
    """The tree of one step with its draft rows."""
    sampler = TokenSampler(samplings, tiny.VOCABULARY_SIZE, torch.device("cpu"))
    drafter = LanguageModelDrafter(tiny.llama(noise=0.02), scheme)
    drafter.open()
    for prompt in prompts:
        drafter.join(np.array(prompt), 256)
    policy = sampled_shape(scheme, *SHAPES[scheme.name])
    tree = DraftTree.from_roots(np.array([prompt[-1] for prompt in prompts]))
    step = policy.begin(trees.context(batch=len(prompts)))
    while (frontier := step.frontier(tree)).shape[1]:
        tree = drafter.expand(tree, frontier, policy.limits.width, sampler)
    return tree, drafter.draft_rows


def own_scheme(prompt, tree, slot, node, sampling):
    """[V] the drafter's warped scheme after a node, by a forward without cache."""
    path = []
    while node > 0:
        path.append(int(tree.tokens[slot, node]))
        node = int(tree.parents[slot, node])
    with torch.no_grad():
        logits = tiny.llama(noise=0.02).model(input_ids=torch.tensor([[*prompt, *path[::-1]]])).logits[0, -1]
    return TokenSampler([sampling], tiny.VOCABULARY_SIZE, torch.device("cpu")).probs(logits, 0)


PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
SAMPLINGS = [Sampling(1.0, seed=1), Sampling(0.7, top_p=0.9, seed=2), Sampling(1.3, top_k=9, seed=3)]


@pytest.mark.parametrize("scheme", SAMPLED_SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_draft_rows_are_the_distributions_that_were_sampled(scheme):
    tree, draft_rows = drafted(scheme, PROMPTS, SAMPLINGS)
    for slot, (prompt, sampling) in enumerate(zip(PROMPTS, SAMPLINGS, strict=True)):
        with_children = set(tree.parents[slot, 1 : tree.num_nodes[slot]].tolist())
        assert set(draft_rows[slot]) == with_children
        for node, row in draft_rows[slot].items():
            expected = own_scheme(prompt, tree, slot, node, sampling)
            children = np.nonzero(tree.parents[slot] == node)[0]
            if scheme == GREEDY_PLUS_ONE:
                best = tree.tokens[slot, children[1:]]
                assert best.tolist() == expected.topk(len(children) - 1).indices.tolist()
                expected[best] = 0.0
                expected /= expected.sum()
            torch.testing.assert_close(row.exp(), expected, rtol=0, atol=1e-12)
            assert (expected[tree.tokens[slot, children[:1]]] > 0).all()


def test_paths_descend_one_by_one_and_equal_draws_are_one_node():
    samplings = [Sampling(0.3, seed=seed) for seed in range(20)]  # sharp, so that draws repeat
    tree, _ = drafted(IID_PATHS, [[3, 1, 4]] * 20, samplings)
    assert tree.paths is not None and tree.paths.shape == (20, 3, 3)
    assert tree.num_nodes.min() < 8  # of a root, a trunk and three branches of two
    for slot, paths in enumerate(tree.paths):
        assert (paths[1:, 0] == -1).all()  # the trunk is of path 0
        for path in paths:
            above = paths[0, 0]
            for node in path[1:]:
                assert tree.parents[slot, node] == above
                above = node
        nodes = set(range(1, int(tree.num_nodes[slot])))
        assert set(paths[paths >= 0].tolist()) == nodes
        families = [(int(tree.parents[slot, node]), int(tree.tokens[slot, node])) for node in nodes]
        assert len(set(families)) == len(families)


def test_without_replacement_siblings_differ_and_are_in_draw_order():
    tree, _ = drafted(WITHOUT_REPLACEMENT, PROMPTS, SAMPLINGS)
    assert tree.paths is None
    for slot in range(3):
        branches = np.nonzero(tree.depths[slot] == 2)[0]
        assert len(set(tree.tokens[slot, branches].tolist())) == 3
        assert tree.ranks[slot, branches].tolist() == [0, 1, 2]


def test_a_trunk_has_the_best_other_tokens_beside_it():
    tree, draft_rows = drafted(HYBRID, PROMPTS, SAMPLINGS)
    assert tree.paths is not None
    for slot in range(3):
        trunk = tree.paths[slot, tree.paths[slot] >= 0]
        assert trunk.tolist() == [1, 4, 7]
        for node, drawn in zip((0, 1, 4), trunk, strict=True):
            row = draft_rows[slot][node].clone()
            row[tree.tokens[slot, drawn]] = -torch.inf
            sides = np.nonzero(tree.parents[slot] == node)[0][1:]
            assert tree.tokens[slot, sides].tolist() == row.topk(2).indices.tolist()


def first_draws(scheme, count, num_steps):
    """[num_steps, count] the tokens of the root's children in a vocabulary of four, over steps of one text."""
    probs = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    sampler = TokenSampler([Sampling(seed=5)] * num_steps, 4, torch.device("cpu"))
    roots = DraftTree.from_roots(np.zeros(num_steps, dtype=np.int64))
    frontier = np.zeros((num_steps, count), dtype=np.int64)
    rows = probs.log().expand(num_steps, count, 4)
    tree, _ = append_draws(roots, frontier, rows, scheme, sampler, root_positions=np.arange(num_steps))
    if scheme == IID_PATHS:
        assert tree.paths is not None
        return tree.tokens[np.arange(num_steps)[:, None], tree.paths[:, :, 0]], probs.numpy()
    return tree.tokens[:, 1 : 1 + count], probs.numpy()


def is_likely(draws, expected):
    """Whether counts of the rows of `draws` [n, k] fit the expected probabilities [V, ..., V]."""
    counts = np.zeros(expected.shape)
    np.add.at(counts, tuple(draws.T), 1)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    return power_divergence(counts[possible], expected[possible] * len(draws)).pvalue > LEAST_P_VALUE


def test_draws_of_a_node_are_independent_and_so_are_those_of_two_steps():
    draws, probs = first_draws(IID_PATHS, 2, 20_000)
    pairs = np.outer(probs, probs)
    assert is_likely(draws, pairs)
    assert is_likely(np.stack((draws[:-1, 0], draws[1:, 0]), axis=1), pairs)


def test_draws_without_replacement_come_from_what_the_earlier_ones_left():
    draws, probs = first_draws(WITHOUT_REPLACEMENT, 3, 20_000)
    expected = np.zeros((4, 4, 4))
    for first, second, third in itertools.permutations(range(4), 3):
        left = 1.0 - probs[first]
        expected[first, second, third] = probs[first] * probs[second] / left * probs[third] / (left - probs[second])
    assert is_likely(draws, expected)


def test_greedy_plus_one_draws_outside_its_best_tokens():
    draws, _ = first_draws(GREEDY_PLUS_ONE, 3, 20_000)
    assert (draws[:, 1:] == [0, 1]).all()
    assert is_likely(draws[:, :1], np.array([0, 0, 2 / 3, 1 / 3]))


def test_where_the_cut_leaves_nothing_to_draw_only_the_best_tokens_are_drafted():
    tree, draft_rows = drafted(GREEDY_PLUS_ONE, [[3, 1, 4]], [Sampling(1.0, top_k=1)])
    assert tree.num_nodes.tolist() == [4]  # one token is left: a chain, whose branch is its best token
    branch = int(np.nonzero(tree.depths[0] == 1)[0][0])
    assert set(draft_rows[0]) == {0, 2}
    assert branch not in draft_rows[0]


@pytest.mark.parametrize("scheme", [WITHOUT_REPLACEMENT, GREEDY_PLUS_ONE], ids=lambda scheme: scheme.name)
def test_after_a_certain_token_the_others_are_drawn_by_their_own_ratios(scheme):
    """Float32 numbers near thirty million are two apart: noise rounded to them would tie more often than not."""
    num_steps = 20_000
    sampler = TokenSampler([Sampling(seed=5)] * num_steps, 4, torch.device("cpu"))
    roots = DraftTree.from_roots(np.zeros(num_steps, dtype=np.int64))
    log_probs = torch.tensor([0.0, -3e7, -3e7, -3e7]).expand(num_steps, 2, 4)
    tree, draft_rows = append_draws(
        roots, np.zeros((num_steps, 2), dtype=np.int64), log_probs, scheme, sampler, np.arange(num_steps)
    )
    sure, other = (tree.tokens[:, 1], tree.tokens[:, 2]) if scheme == WITHOUT_REPLACEMENT else tree.tokens[:, [2, 1]].T
    assert (sure == 0).all()
    assert is_likely(other[:, None], np.array([0, 1 / 3, 1 / 3, 1 / 3]))
    rest = draft_rows[0][0][1:]
    torch.testing.assert_close(rest.softmax(-1), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("scheme", [WITHOUT_REPLACEMENT, GREEDY_PLUS_ONE, HYBRID], ids=lambda scheme: scheme.name)
def test_a_sure_drafter_has_siblings_and_a_cut_leaves_none(scheme):
    cold, _ = drafted(scheme, [[3, 1, 4]], [Sampling(0.001)])
    cut, _ = drafted(scheme, [[3, 1, 4]], [Sampling(0.001, top_k=1)])
    assert cold.ranks.max() > 0
    assert cut.ranks.max() == 0


@pytest.mark.parametrize("scheme", SAMPLED_SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_a_text_is_its_seeds_whatever_its_batch(scheme):
    requests = tiny.requests(3, 0.9, top_p=0.9)
    decoder = Decoder(
        Target(tiny.llama()),
        get_verifier(VERIFIERS[scheme.name]),
        tiny.detokeniser(),
        frozenset(),
        drafter=LanguageModelDrafter(tiny.llama(noise=0.02), scheme),
        selector=sampled_shape(scheme, *SHAPES[scheme.name]),
    )
    together, stats = decoder.generate(requests)
    assert stats.num_accepted > 0
    for request, stream in zip(requests, together, strict=True):
        (alone,), _ = decoder.generate([request])
        assert stream.token_ids == alone.token_ids


@pytest.mark.parametrize("scheme", SAMPLED_SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_greedy_texts_stay_those_of_plain_decoding(scheme):
    """At T = 0 both rows are one-hot, and every lossless verifier can generate one text only."""
    requests = tiny.requests(2, 0.0)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    decoder = Decoder(
        Target(tiny.llama()),
        get_verifier(VERIFIERS[scheme.name]),
        tiny.detokeniser(),
        frozenset(),
        drafter=LanguageModelDrafter(tiny.llama(noise=0.02), scheme),
        selector=sampled_shape(scheme, *SHAPES[scheme.name]),
    )
    streams, stats = decoder.generate(requests)
    assert [stream.token_ids for stream in streams] == [stream.token_ids for stream in plain]
    assert stats.num_kept > 0


def test_repeated_nodes_are_forwarded_once():
    nodes, entries = distinct(np.array([[4, 4, 2, 4], [7, -1, -1, -1], [-1, -1, -1, -1], [1, 2, 3, 1]]))
    assert nodes.tolist() == [[4, 2, -1], [7, -1, -1], [-1, -1, -1], [1, 2, 3]]
    assert entries.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 0]]
