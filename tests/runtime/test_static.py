"""Forwards of static shapes, as a device captures them, are those of any shape; here without a device."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from device import FromTheDevice
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.engines.base import FEW, append_texts
from treewright.runtime.engines.transformers.attention import PAGED_ATTENTION
from treewright.runtime.engines.transformers.shapes import ROWS, TEXTS, Shape
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
TOLERANCE = {"rtol": 0, "atol": 1e-12}  # both sides are the same float64 sums in another order


def static(model):
    return StaticModel(model.model, model.vocabulary_size)


def llamas():
    return (static(tiny.llama(noise=noise)) for noise in (0.0, 0.02))


def families():
    return [pytest.param(name, id=name) for name in tiny.FAMILIES]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_requests_that_join_and_leave_get_their_plain_texts(temperature):
    requests = tiny.requests(6, temperature)
    plain = [tiny.decoder(tiny.llama()).generate([each])[0][0].token_ids for each in requests]
    target, drafter = llamas()
    decoder = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS))
    streams, batch = decoder.open_streams(requests), decoder.open_batch()
    for request, stream in zip(requests, streams, strict=True):
        batch.join(request, stream)
        batch.step()
    while len(batch):
        batch.step()
    assert [stream.token_ids for stream in streams] == plain


@pytest.mark.parametrize("family", families())
def test_every_family_generates_its_plain_text(family):
    requests = tiny.requests(3, 0.8)
    plain = tiny.decoder(tiny.model_of(family)).generate(requests)[0]
    target, drafter = static(tiny.model_of(family)), static(tiny.model_of(family, seed=1))
    trees = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)).generate(requests)[0]
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]


def test_levels_of_any_width_have_the_logits_of_dynamic_shapes():
    generator = np.random.default_rng(0)
    models = tiny.llama(), static(tiny.llama())
    texts = [generator.integers(tiny.VOCABULARY_SIZE, size=size) for size in (9, 4, 1)]
    for model in models:
        model.open(3, 60)
        append_texts(model, texts)
    for _ in range(3):
        num_rows = 0
        for width in generator.integers(1, 7, size=3).tolist():
            tokens = generator.integers(tiny.VOCABULARY_SIZE, size=(3, width))
            parents = generator.integers(-1, num_rows + np.arange(width), size=(3, width))
            positions = models[0].lengths[:, None] + generator.integers(0, 3, size=(3, width))
            kept = int(generator.integers(1, width + 1))
            given, static_rows = (m.forward(tokens, positions, parents, num_logits=kept) for m in models)
            torch.testing.assert_close(static_rows, given, **TOLERANCE)
            num_rows += width
        rows = np.array([[0, num_rows - 1], [num_rows // 2, -1], [-1, -1]])
        rows[0, 1] = max(1, rows[0, 1])
        for model in models:
            model.commit(rows)


def test_padding_leaves_a_text_that_is_being_read_alone():
    model, text, half = static(tiny.llama()), np.array([1, 2, 3]), np.array([4, 5, 6, 7])
    model.open(0, 0)
    for _ in range(4):
        model.join(40)
    append_texts(model, [text, text, text, half[:2]])
    append_texts(model, [text, text, text])  # padded to a batch of four, whose last is half read
    rows = append_texts(model, [text[:0], text[:0], text[:0], half[2:]])
    expected = tiny.llama().model(torch.tensor([half.tolist()])).logits[0, -1]
    torch.testing.assert_close(rows[3], expected, **TOLERANCE)


def test_shapes_are_those_of_the_menu(monkeypatch):
    met, compute = set(), StaticModel.compute
    monkeypatch.setattr(
        StaticModel, "compute", lambda self, shape, *inputs: met.add(shape) or compute(self, shape, *inputs)
    )
    target, drafter = llamas()
    tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)).generate(tiny.requests(5, 0.8))
    assert met
    assert {shape.num_rows for shape in met} <= set(ROWS)
    assert {shape.num_texts for shape in met} <= set(TEXTS)


@pytest.mark.parametrize("family", families())
def test_a_forward_reads_nothing_from_the_host_and_nothing_back(family):
    """What a graph cannot capture fails on the meta device: it has no values."""
    model = static(tiny.model_of(family))
    network: Any = model.model  # transformers' decorator hides the signature of `to`
    on_device = StaticModel(network.to("meta"), model.vocabulary_size)
    on_device.open(2, 60)
    shape = Shape.of(2, 8, heads=2)
    data = torch.zeros(8 * sum(shape.sizes) + 8 * 8, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), FromTheDevice():
        (logits,) = on_device.compute(shape, data)
    assert logits.shape == (8, tiny.VOCABULARY_SIZE)


def test_shapes_that_are_captured_ahead_are_those_that_steps_run(monkeypatch):
    met, compute = {}, StaticModel.compute
    monkeypatch.setattr(
        StaticModel,
        "compute",
        lambda self, shape, *inputs: met.setdefault(self, set()).add(shape) or compute(self, shape, *inputs),
    )
    target, drafter = llamas()
    requests = [Request([1 + number] * (1 + 70 * number), 20, Sampling(seed=number)) for number in range(3)]
    decoder = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS))
    for _ in decoder.steps(requests, decoder.open_streams(requests), 2):
        pass
    assert met[target] <= set(Shape.menu(2, 1 + LIMITS.budget, heads=2))
    assert met[drafter] <= set(Shape.menu(2, FEW, heads=2))


def test_what_is_captured_ahead_is_what_steps_run(monkeypatch):
    """Attention over pages, and the hidden states that a head reads."""
    met = []
    monkeypatch.setattr(
        StaticModel,
        "prepare",
        lambda self, *sizes, **options: met.append((self.model.config._attn_implementation, self.hidden_layers)),
    )
    target, drafter = llamas()
    assert target.model.config._attn_implementation == "sdpa"
    tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)).prepare(2)
    assert met == [(PAGED_ATTENTION, ())] * 2
    met.clear()
    target = Target(static(tiny.llama()), hidden_layers=(0, 2))
    Decoder(target, WalkVerifier(), tiny.detokeniser(), frozenset()).prepare(2)
    assert met == [(PAGED_ATTENTION, (0, 2))]
