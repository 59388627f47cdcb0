"""The walk against enumeration: accepted length and block efficiency of hand-made trees."""

import itertools

import numpy as np
import pytest
import torch
from trees import random_tree
from treewright.controller.trees.children import Children
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.verification.walk import WalkVerifier, walk

VOCABULARY_SIZE = 3


class ForcedSampler(TokenSampler):
    """Samples the token that the one-hot logits of a node name."""

    def __init__(self):
        super().__init__([], VOCABULARY_SIZE, torch.device("cpu"))

    def draw(self, logits, positions):
        return logits.argmax(-1).numpy()


def hand_made_trees():
    """A chain, siblings, a bushy tree and one whose last node is a child of the root's second child."""
    ones = np.zeros((1, 1, 1), dtype=np.float32)

    def grow(tree, node, tokens):
        flat = np.zeros((1, 1, len(tokens)), dtype=np.float32)
        return tree.extend(np.array([[node]]), Children(np.array([[tokens]]), flat, flat, ones[0], ones[0]))

    root = DraftTree.from_roots(np.array([0]))
    return {
        "chain": grow(grow(root, 0, [1]), 1, [2]),
        "siblings": grow(root, 0, [2, 0]),
        "bushy": grow(grow(root, 0, [0, 1]), 1, [2, 1]),
        "second child": grow(grow(root, 0, [0, 1]), 2, [0, 1]),
    }


@pytest.mark.parametrize("tree", hand_made_trees().values(), ids=hand_made_trees())
def test_block_efficiency_is_one_plus_the_node_probabilities(tree):
    """Every combination of target tokens at the nodes, weighted by its probability, through the real walk."""
    count = int(tree.num_nodes[0])
    target_probs = np.random.default_rng(0).dirichlet(np.ones(VOCABULARY_SIZE), size=count)
    tokens_per_step = 0.0
    for drawn in itertools.product(range(VOCABULARY_SIZE), repeat=count):
        rows = torch.eye(VOCABULARY_SIZE)[list(drawn)][None]
        verdict = WalkVerifier().verify(tree, rows, (), ForcedSampler(), np.zeros(1, dtype=int))
        weight = np.prod(target_probs[np.arange(count), list(drawn)])
        tokens_per_step += weight * (1 + verdict.accepted_lengths[0])
    edges = np.zeros((1, count))
    edges[0, 1:] = np.log(target_probs[tree.parents[0, 1:], tree.tokens[0, 1:]])
    closed_form = np.exp(tree.path_sums(edges)).sum()  # the root counts 1
    assert tokens_per_step == pytest.approx(closed_form, rel=1e-12)


def test_the_walk_equals_a_ten_line_loop_on_random_batches():
    generator = np.random.default_rng(1)
    for _ in range(50):
        tree = random_tree(generator, batch=3, levels=3)
        drawn = generator.choice(tree.tokens[0], size=tree.tokens.shape)
        follow = generator.random(tree.tokens.shape) < 0.7  # else most walks would end at the root
        for row in range(3):
            for node in range(1, int(tree.num_nodes[row])):
                if follow[row, node]:
                    drawn[row, tree.parents[row, node]] = tree.tokens[row, node]
        rows = torch.nn.functional.one_hot(torch.from_numpy(drawn), 100).float()
        verdict = WalkVerifier().verify(tree, rows, (), ForcedSampler(), np.zeros(3, dtype=int))
        for row in range(3):
            node, path = 0, []
            while True:
                token = drawn[row, node]
                children = [
                    child
                    for child in range(1, int(tree.num_nodes[row]))
                    if tree.parents[row, child] == node and tree.tokens[row, child] == token
                ]
                if not children:
                    break
                node = children[0]
                path.append(node)
            assert verdict.path[row][verdict.path[row] >= 0].tolist() == path
            assert verdict.next_tokens[row] == token


def test_sampling_along_the_path_gives_the_verdict_of_sampling_after_every_node():
    generator = np.random.default_rng(2)
    num_accepted = 0
    for seed in range(20):
        tree = random_tree(generator, batch=3, levels=3)
        tree.tokens[:] %= 5
        rows = torch.from_numpy(generator.normal(size=(*tree.tokens.shape, 5)))
        samplings = [Sampling(temperature, seed=seed) for temperature in (0.0, 0.7, 1.0)]
        sampler, positions = TokenSampler(samplings, 5, torch.device("cpu")), np.array([3, 60, 9])
        lazy = WalkVerifier().verify(tree, rows, (), sampler, positions)
        at_once = walk(tree, sampler.draw_all(rows, positions, tree.depths).tokens)
        assert (lazy.path == at_once.path).all() and (lazy.next_tokens == at_once.next_tokens).all()
        num_accepted += lazy.accepted_lengths.sum()
    assert num_accepted > 20
