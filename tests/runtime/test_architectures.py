"""Every architecture is decoded as trees with the logits of its own plain forwards, or refused in a sentence."""

import copy

import numpy as np
import pytest
import torch
from architectures import BLOCKS, FAMILIES, TREES, VOCABULARY_SIZE, small_config
from transformers import AutoModelForCausalLM
from trees import random_tree
from treewright.controller.errors import InputError
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.support import own_attention
from treewright.runtime.target import Target

# Of the largest logit; several architectures round some of their sums to float32. A row too many or too few makes
# a hundred times as much.
TOLERANCE = 1e-4

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, about odd configurations


def random_model(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config(FAMILIES[name])).eval()
    model.set_attn_implementation(own_attention(model))  # as models are loaded
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # as they are initialised, attention hardly matters
                weight.normal_(0, 0.3)
    return model


def outcome(model):
    try:
        ours = TransformersModel(model, VOCABULARY_SIZE)
        return ours.check() or (TREES if ours.packs else BLOCKS)
    except InputError as refusal:
        return str(refusal)


class Texts:
    """Decodes random trees and compares every node with the forward of `plain` over its whole text."""

    def __init__(self, model, plain):
        self.plain, self.generator = plain, np.random.default_rng(0)
        self.target = Target(model)
        self.target.open()
        self.texts = []

    def join(self, length):
        text = self.generator.integers(1, VOCABULARY_SIZE, size=length)
        self.target.join(text, capacity=90)
        self.texts.append(text.tolist())

    def leave(self, slot):
        slots = [slot + 1 if index == slot else index for index in range(len(self.texts) - 1)]
        self.target.keep(slots)
        self.texts = [self.texts[index] for index in slots]

    def step(self, levels):
        tree = random_tree(self.generator, batch=len(self.texts), levels=levels)
        tree.tokens[:] = 1 + tree.tokens % (VOCABULARY_SIZE - 1)
        tree.tokens[:, 0] = [text[-1] for text in self.texts]
        found = self.target.score(tree)
        paths, texts, rows = [], [], []
        for slot, text in enumerate(self.texts):
            ways = [way(tree.parents[slot], node) for node in range(int(tree.num_nodes[slot]))]
            texts += [text + tree.tokens[slot, path].tolist() for path in ways]
            rows += [found[slot, node] for node in range(len(ways))]
            paths.append(ways[int(self.generator.integers(len(ways)))])
            self.texts[slot] = text + tree.tokens[slot, paths[-1]].tolist() + [7]
        expected = self.plain_rows(texts)
        error = (torch.stack(rows)[:, :VOCABULARY_SIZE] - expected).abs().max() / expected.abs().max()
        committed = np.full((len(paths), max(map(len, paths))), -1)
        for row, path in zip(committed, paths, strict=True):
            row[: len(path)] = path
        self.target.commit(committed)
        return float(error)

    @torch.inference_mode()
    def plain_rows(self, texts):
        block = torch.ones((len(texts), max(map(len, texts))), dtype=torch.int64)
        for row, text in zip(block, texts, strict=True):
            row[: len(text)] = torch.tensor(text)
        logits = self.plain(input_ids=block, use_cache=False).logits[..., :VOCABULARY_SIZE]
        return torch.stack([row[len(text) - 1] for row, text in zip(logits, texts, strict=True)])


def way(parents, node):
    """From the root's child to a node."""
    path = []
    while node > 0:
        path.append(node)
        node = int(parents[node])
    return path[::-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_decoded_with_its_own_logits_or_refused_by_name(name):
    model = random_model(name)
    plain = copy.deepcopy(model)
    found, expected = outcome(model), FAMILIES[name].outcome
    assert expected in found
    if found not in (TREES, BLOCKS):
        return
    ours = TransformersModel(model, VOCABULARY_SIZE)
    ours.packs = found == TREES
    batch = Texts(ours, plain)
    batch.join(4)
    errors = [batch.step(levels=3)]
    batch.join(30)
    errors += [batch.step(levels=5), batch.step(levels=0)]
    batch.leave(0)
    batch.join(9)
    errors += [batch.step(levels=4), batch.step(levels=2)]
    assert max(errors) < TOLERANCE, errors
