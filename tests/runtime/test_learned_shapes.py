"""Shapes that a network chooses: what it is told, and what does not depend on them."""

import numpy as np
import pytest
import shaped
import tiny
import traces
from treewright.collect.labels.shapes import ShapeConfig, label_shapes
from treewright.controller.context import StepContext
from treewright.controller.learned.history import HISTORY
from treewright.controller.learned.shape_menu import SHAPED_VERIFIERS, scheme_of
from treewright.controller.memory import MemoryConfig
from treewright.controller.trees.delayed import CHAINS, DEEPEST, DelayedShape
from treewright.controller.trees.menu import DELAYED_MENU
from treewright.controller.trees.tree import DraftTree

TARGET, DRAFTER = tiny.llama(), tiny.llama(noise=0.01)


def decode(requests, policy, verifier="traversal", memory=None):
    """The texts, and the records of all steps."""
    decoder = tiny.decoder(TARGET, DRAFTER, policy, scheme_of(verifier), verifier=verifier, memory=memory)
    streams = decoder.open_streams(requests)
    records = list(decoder.steps(requests, streams))
    return [stream.token_ids for stream in streams], records


def test_the_network_is_told_what_the_labels_say():
    """Root by root: the rows of drafted trees, of accepted leaves and of lone roots give the numbers of the text."""
    (request,) = tiny.requests(1, 0.8, 60, top_p=0.9)
    (tokens,), records = decode([request], shaped.random_policy())
    row = traces.row_of(request, tokens, "doc")
    labels = label_shapes(TARGET, DRAFTER, row, ShapeConfig(labels=True, trees=0)).shapes
    by_root = {label.position - 1: label.agreement for label in labels}
    depths = set()
    for record in records:
        root = int(record.context.positions[0])
        assert record.context.agreement is not None
        np.testing.assert_allclose(record.context.agreement[0], by_root[root], rtol=1e-4, atol=1e-5)
        depths.add((int(record.kept.depths.max()), int(record.verdict.accepted_lengths[0])))
    assert any(depth == 0 for depth, _ in depths)
    assert any(0 < depth == accepted for depth, accepted in depths)
    assert any(depth > accepted for depth, accepted in depths)


@pytest.mark.parametrize("memory", [None, MemoryConfig(window=16)], ids=["no memory", "memory"])
def test_a_text_is_the_same_alone_and_in_a_batch(memory):
    requests = tiny.requests(3, 0.8, 30)
    together, records = decode(requests, shaped.random_policy(), memory=memory)
    alone = [decode([request], shaped.random_policy(), memory=memory)[0][0] for request in requests]
    assert together == alone
    assert any(len(set((record.kept.depths.max(axis=1)).tolist())) > 1 for record in records)  # of several shapes


@pytest.mark.parametrize("verifier", SHAPED_VERIFIERS)
def test_greedy_text_is_the_plain_one(verifier):
    requests = tiny.requests(2, 0.0, 20)
    plain, _ = tiny.decoder(TARGET).generate(requests)
    for memory in (None, MemoryConfig(window=16)):
        texts, _ = decode(requests, shaped.random_policy(verifier), verifier, memory)
        assert texts == [stream.token_ids for stream in plain]


def context(remaining, temperature=1.0):
    size = len(remaining)
    numbers = np.full(size, temperature, dtype=np.float32)
    return StepContext(
        positions=np.full(size, 50),
        remaining=np.array(remaining),
        temperatures=numbers,
        top_ps=np.ones(size, dtype=np.float32),
        history=np.zeros((size, len(HISTORY)), dtype=np.float32),
        agreement=np.zeros((size, 9), dtype=np.float32),
    )


def test_the_choice_has_the_largest_length_less_the_price_of_its_time():
    lengths = np.zeros(len(DELAYED_MENU.shapes), dtype=np.float32)
    deep, shallow = (DELAYED_MENU.places[DelayedShape(*shape)] for shape in ((3, 2, 4), (1, 2, 0)))
    lengths[deep], lengths[shallow] = 5.0, 2.0
    cheap = shaped.policy_of(lambda features: np.tile(lengths, (len(features), 1)), {"1": 1e-6})
    assert cheap.choose(context([40]))[0] == deep
    dear = shaped.policy_of(lambda features: np.tile(lengths, (len(features), 1)), {"1": 10.0})
    assert dear.choose(context([40]))[0] == 0
    scaled = shaped.policy_of(lambda features: np.tile(lengths, (len(features), 1)), {"1": 10.0}, theta_scale=1e-7)
    assert scaled.choose(context([40]))[0] == deep
    by_temperature = shaped.policy_of(lambda features: np.tile(lengths, (len(features), 1)), {"0.6": 1e-6, "1": 10.0})
    assert by_temperature.choose(context([40], 0.7))[0] == deep
    cut = [DELAYED_MENU.shapes[place] for place in cheap.choose(context([4, 2, 1]))]
    assert cut == [DelayedShape(3, 2, 1), *CHAINS[1::-1]]


def test_an_answer_that_is_no_number_drafts_nothing_and_is_counted():
    policy = shaped.policy_of(
        lambda features: np.full((len(features), len(DELAYED_MENU.shapes)), np.nan, dtype=np.float32), {"1": 1.0}
    )
    assert policy.choose(context([40, 40])).tolist() == [0, 0]
    assert policy.num_distrusted == 2


def test_a_policy_for_verifiers_of_one_path_drafts_chains():
    policy = shaped.random_policy("block")
    assert policy.limits.frontier == 1 and policy.limits.budget == DEEPEST
    step = policy.begin(context([40] * 8))
    tree = DraftTree.from_roots(np.arange(8))
    assert step.frontier(tree).shape[1] <= 1
