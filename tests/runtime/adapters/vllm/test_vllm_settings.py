"""Settings, trees and outcomes of the guest in vLLM, as far as no vLLM is needed."""

import json

import numpy as np
import pytest
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.adapters.vllm.forest import Branches, ancestors_of, batch_tree, chain_of, depths_of, first_path
from treewright.runtime.adapters.vllm.launch import VllmConfig, arguments, tree_options
from treewright.runtime.adapters.vllm.policy import Loaded, shaping
from treewright.runtime.adapters.vllm.settings import VllmSettings
from treewright.runtime.adapters.vllm.slots import DraftSlots, Outcome
from treewright.runtime.adapters.vllm.texts import Drafting, Text
from treewright.runtime.pair_config import reference_folder
from treewright.runtime.sampling import Sampling
from treewright.runtime.verification.walk import walk

# Root 0 with children 1, 2; below 1 come 3 and 4, below 4 comes 5.
TREE = Branches([11, 12, 13, 14, 15], [0, 0, 1, 1, 4])


def test_without_a_section_of_its_own_there_are_no_settings():
    assert VllmSettings.parse({}) is None
    assert VllmSettings.parse({"other": 1}) is None
    assert VllmSettings.parse({"treewright": {"depth": 2}}) == VllmSettings(depth=2)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"dept": 3}, "treewright.dept is no setting; there are depth, drafter"),
        ({"depth": 0}, "treewright.depth is between 1 and 64, got 0"),
        ({"width": 1.5}, "treewright.width is of the kind int, got 1.5"),
        ({"guard": 1}, "treewright.guard is of the kind bool, got 1"),
        ({"min_prob": 2}, "treewright.min_prob is between 0 and 1, got 2"),
        ({"path_prob": "0.1"}, "treewright.path_prob is of the kind float, got '0.1'"),
        ({"scheme": "free"}, "treewright.scheme is one of coupled, fixed, got 'free'"),
        ({"tree": "[(0, 0)]"}, "static tree holds (0, 0) without its parent; add (0,)"),
        ({"tree": "[(0,)]", "depth": 2}, "treewright.depth does nothing beside treewright.selector or tree"),
        ({"theta_scale": 1.0}, "treewright.theta_scale does nothing without treewright.selector"),
        ({"selector": "reference"}, "treewright.selector prices its trees by treewright.latency, which is not given"),
        ({"selector": "x", "latency": "y", "min_prob": 0.1}, "treewright.min_prob does nothing beside"),
        (7, "additional_config's treewright is a JSON object, got 7"),
    ],
)
def test_a_strange_setting_is_refused_in_a_sentence(section, sentence):
    with pytest.raises(InputError) as refusal:
        VllmSettings.parse({"treewright": section})
    assert str(refusal.value).startswith(sentence)


def test_only_thresholds_change_while_an_engine_runs():
    assert VllmSettings(depth=2).changed({"min_prob": 0.2}) == VllmSettings(depth=2, min_prob=0.2)
    with pytest.raises(InputError, match=r"treewright.width is fixed when the engine starts"):
        VllmSettings().changed({"width": 2})
    with pytest.raises(InputError, match=r"treewright.nope is no setting; there are depth"):
        VllmSettings().changed({"nope": 2})


@pytest.mark.parametrize("changes", [None, [], "min_prob"])
def test_changes_are_an_object(changes):
    with pytest.raises(InputError, match="changes of treewright's settings are a JSON object, got"):
        VllmSettings().changed(changes)


def test_a_trees_rows_are_at_their_depths_and_see_their_ancestors():
    assert depths_of(TREE.parents) == [0, 1, 1, 2, 2, 3]
    sees = ancestors_of(TREE.parents)
    assert [row.nonzero()[:, 0].tolist() for row in sees] == [[0], [0, 1], [0, 2], [0, 1, 3], [0, 1, 4], [0, 1, 4, 5]]
    assert TREE.is_branched
    assert not chain_of([5, 6]).is_branched


def test_what_vllm_scheduled_of_a_tree_is_a_tree_or_foreign():
    assert TREE.scheduled([11, 12, 13]) == Branches([11, 12, 13], [0, 0, 1])
    assert TREE.scheduled([11, 13]) is None
    assert TREE.scheduled([-1, -1]) is None
    assert TREE.scheduled([11, 12, 13, 14, 15, 16]) is None


def test_a_batch_of_trees_is_walked_like_one_of_our_own():
    batch = batch_tree(np.array([7, 8, 9]), [TREE, None, chain_of([3, 4])])
    assert batch.num_nodes.tolist() == [6, 1, 3]
    assert Branches.of(batch, 0) == TREE
    assert Branches.of(batch, 2) == chain_of([3, 4])
    sampled = np.zeros(batch.tokens.shape, dtype=np.int64)
    sampled[0, :] = [11, 14, 0, 0, 15, 99]  # behind the root 11, behind node 1 14, behind node 4 15
    sampled[1, 0], sampled[2, 0] = 5, 3
    verdict = walk(batch, sampled)
    assert [[node for node in row if node >= 0] for row in verdict.path.tolist()] == [[1, 4, 5], [], [1]]
    assert verdict.next_tokens.tolist() == [99, 5, 0]


def test_a_request_that_may_only_draft_a_chain_keeps_the_first_path():
    batch = batch_tree(np.array([7]), [TREE])
    assert first_path(batch, np.array([[0, 1, 2, 3, 4, 5]]), 0) == [0, 1, 3]
    assert first_path(batch, np.array([[0, 2, -1]]), 0) == [0, 2]


def test_a_selector_is_bounded_by_what_its_drafter_can_draft(tmp_path):
    checkpoint = Checkpoint.from_pretrained(reference_folder() / "selector")
    table = LatencyTable({}, (1,), (1,), ((1.0,),), (1,), (((1.0,),),), (0,), (((1.0,),),))
    settings = VllmSettings(selector="reference", latency="x")
    whole = shaping(settings, Loaded(checkpoint, table), TreeLimits(64, 64, 256, 12, ngrams=True))
    assert whole.scheme.name == checkpoint.config.scheme
    assert whole.policy.limits.budget == 12
    assert whole.policy.limits.frontier == checkpoint.config.limits.frontier
    chain = shaping(settings, Loaded(checkpoint, table), TreeLimits(64, 1, 1, 5))
    assert chain.policy.limits == TreeLimits(min(64, checkpoint.config.limits.max_depth), 1, 1, 5)


def test_a_static_tree_larger_than_the_budget_is_refused():
    settings = VllmSettings(tree="[(0,), (1,), (0, 0)]")
    with pytest.raises(InputError, match=r"treewright.tree has 3 nodes, but num_speculative_tokens.* is 2"):
        shaping(settings, Loaded(None, None), TreeLimits(64, 64, 256, 2))


def text(tokens, **options):
    return Text(Sampling(0.0), None, Drafting.TREE, tokens, 8, **options)


def test_slots_follow_the_requests_that_come_and_go():
    texts = {name: text([1, 2, number]) for number, name in enumerate("abcd")}
    slots = DraftSlots(20, TreeLimits(ngrams=True), longest=7)
    slots.update({name: texts[name] for name in "abc"})
    assert slots.roots(texts).tolist() == [0, 1, 2]
    slots.calibration.sums[:] = np.arange(3)[:, None, None]
    tree = batch_tree(slots.roots(texts), [TREE, TREE, TREE])
    texts["a"].emit([5, 6, 7], [-1.0] * 3, [0.5] * 3)
    texts["c"].emit([5, 7], [-1.0] * 2, [0.5] * 2)
    slots.commit(tree, {"a": Outcome([1, 4], [5, 6, 7]), "c": Outcome([2], [5, 7])})
    assert slots.ids == ["a", "c"]
    slots.update({name: texts[name] for name in "cda"})
    assert slots.ids == ["a", "c", "d"]
    assert slots.roots(texts).tolist() == [7, 7, 3]
    context = slots.context(texts)
    assert context.positions.tolist() == [5, 4, 2]
    assert context.remaining.tolist() == [1, 2, 4]
    assert context.calibration is not None and context.calibration.sums[:, 0, 0].tolist() == [0, 2, 0]
    assert context.history[0, 0] == -1.0
    assert len(slots.ngrams) == 3


def test_a_text_ends_where_vllm_ends_it():
    assert text([1], emitted=[4, 9, 5], stops=frozenset({9})).kept == [4, 9]
    assert text([1], emitted=[4, 9, 5], stops=frozenset({9}), min_tokens=2).kept == [4, 9, 5]
    assert text([1], emitted=list(range(10))).kept == list(range(8))
    assert not text([1], emitted=[4, 5]).has_ended
    assert text([1], emitted=[4, 9], stops=frozenset({9})).has_ended


def test_the_servers_words_say_what_the_engine_is_given():
    options = tree_options(VllmConfig(drafter="d", budget=7), VllmSettings(depth=2))
    words = arguments(options)
    assert json.loads(words[words.index("--additional-config") + 1]) == {"treewright": {"depth": 2, "drafter": "d"}}
    assert json.loads(words[words.index("--speculative-config") + 1])["num_speculative_tokens"] == 7
    assert "--enforce-eager" in words
    assert "speculative_config" not in tree_options(VllmConfig(drafter=None), VllmSettings())
