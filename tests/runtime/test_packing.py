"""Forwards over the rows of a block that count are forwards over the whole block, in float64."""

import numpy as np
import pytest
import tiny
import torch
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.base import FEW, append_texts
from treewright.runtime.engines.transformers.model import LEAST_SKIPPED
from treewright.runtime.engines.transformers.packing import Packing, parts
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

TOLERANCE = {"rtol": 0, "atol": 1e-12}  # both sides are the same float64 sums in another order
WIDE = FEW + 7


def num_rows_run(model, monkeypatch):
    """Of every forward from now on, the rows that its layers see."""
    runs, run = [], model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda **inputs: runs.append(inputs["input_ids"].numel()) or run(**inputs)
    )
    return runs


def random_block(generator, model, counts, known):
    """Inputs of a forward: some rows per text that count, each behind one of those before it, of which `known` [B, m]
    are from earlier forwards, or behind the text."""
    width = max(counts)
    real = np.zeros((len(counts), width), dtype=bool)
    for row, count in zip(real, counts, strict=True):
        row[generator.choice(width, size=count, replace=False)] = True
    known = np.concatenate((known, real), axis=1)
    tokens = generator.integers(tiny.VOCABULARY_SIZE, size=real.shape)
    parents = np.full(real.shape, -1)
    for row, column in zip(*np.nonzero(real), strict=True):
        earlier = np.nonzero(known[row, : known.shape[1] - width + column])[0]
        parents[row, column] = generator.choice(np.append(earlier, -1))
    positions = model.lengths[:, None] + generator.integers(0, 9, size=real.shape)
    return tokens, positions, parents, known


@pytest.mark.parametrize("family", ["llama", *tiny.FAMILIES])
def test_rows_that_count_have_the_logits_and_hidden_states_of_the_whole_block(family, monkeypatch):
    generator = np.random.default_rng(0)
    model, whole = (tiny.llama() if family == "llama" else tiny.model_of(family) for _ in range(2))
    runs = num_rows_run(model, monkeypatch)
    texts = [generator.integers(tiny.VOCABULARY_SIZE, size=size) for size in (4, 9, 1, 2)]
    for each in (model, whole):
        each.hidden_layers = (0, 2)
        each.open(4, 90)
        append_texts(each, texts)
    for counts in ([3, WIDE, 1, 0], [1, 2, 9, 4], [WIDE, 0, WIDE - 1, 2]):
        known = np.zeros((4, 0), dtype=bool)
        for _ in range(2):  # tree rows behind the committed ones, then tree rows behind those
            tokens, positions, parents, known = random_block(generator, model, counts, known)
            real = known[:, -max(counts) :]
            kept = int(generator.integers(1, real.shape[1] + 1))
            rows = model.forward(tokens, positions, parents, num_logits=kept, real=real)
            assert runs[-1] == real.sum()
            expected = whole.forward(tokens, positions, parents, num_logits=kept)
            torch.testing.assert_close(rows[real[:, -kept:]], expected[real[:, -kept:]], **TOLERANCE)
            assert model.hidden is not None and whole.hidden is not None
            torch.testing.assert_close(model.hidden[real], whole.hidden[real], **TOLERANCE)
        committed = np.stack([np.append(np.nonzero(row)[0], [-1, -1])[:2] for row in known])
        for each in (model, whole):
            each.commit(committed)


def test_a_block_with_little_padding_is_run_whole(monkeypatch):
    model = tiny.llama()
    model.open(2, 40)
    runs, num_rows = num_rows_run(model, monkeypatch), LEAST_SKIPPED + 2
    parents = np.full((2, num_rows), -1)
    tokens, positions = np.ones((2, num_rows), dtype=np.int64), np.zeros((2, num_rows), dtype=np.int64)
    for num_real in (3, 2):
        real = np.array([np.ones(num_rows), np.arange(num_rows) < num_real], dtype=bool)
        model.forward(tokens, positions, parents, real=real)
        model.commit(np.full((2, 0), -1))
    assert runs == [2 * num_rows, num_rows + 2]


def test_a_text_of_many_rows_attends_by_itself():
    real = np.arange(WIDE) >= WIDE - np.array([2, 3, WIDE, FEW, 0, WIDE, FEW + 1])[:, None]
    groups = [(slots.start, slots.stop, columns.stop - columns.start) for slots, columns in parts(real)]
    assert groups == [(0, 2, 3), (2, 3, WIDE), (3, 5, FEW), (5, 6, WIDE), (6, 7, FEW + 1)]


def test_packed_rows_come_back_where_they_were():
    real = np.array([[True, False, True], [False, True, True]])
    packing, block = Packing.of(real, torch.device("cpu")), torch.arange(12.0).view(2, 3, 2)
    assert packing.pack(block)[0, :, 0].tolist() == [0, 4, 8, 10]
    assert torch.equal(packing.unpack(packing.pack(block)), block * torch.from_numpy(real)[..., None])
    indices, last = packing.last(1)
    assert indices.tolist() == [1, 3] and last.real.tolist() == [[True], [True]]


def test_a_prompt_that_joins_is_read_by_the_forward_that_scores_the_others(monkeypatch):
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    decoder = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), TreeLimits(2, 2, 2, 6)))
    first, second = requests = [Request([1] * length, 20, Sampling(1.0, seed=length)) for length in (3, 90)]
    streams, batch = decoder.open_streams(requests), decoder.open_batch()
    batch.join(first, streams[0])
    batch.step()
    batch.join(second, streams[1])
    runs = num_rows_run(target, monkeypatch)
    record = batch.step()
    assert record is not None and len(record.num_emitted) == 2
    assert runs == [89 + int(record.kept.num_nodes.sum())]
