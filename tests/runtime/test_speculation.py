"""From a configuration to a decoder: sampled trees and their verifiers."""

import json
from dataclasses import replace
from pathlib import Path

import checkpoints
import plans
import pytest
import tiny
from checkpoints import BASELINES
from treewright.controller.contract import VERIFIERS
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.auto_scheme import with_scheme
from treewright.runtime.build import build_decoder
from treewright.runtime.speculation import MemoryOptions, SpeculationConfig


def scheme_of(verifier):
    own = {"rrsw": "without-replacement", "greedy-plus-one": "greedy-plus-one"}
    return "hybrid" if verifier.startswith("hybrid") else own.get(verifier, "iid-paths")


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_every_verifier_can_be_asked_for(verifier):
    scheme = scheme_of(verifier)
    sampled = (2, 3, 0) if scheme == "hybrid" else (2, 1, 2)
    decoder = build_decoder(tiny.pair(), SpeculationConfig(sampled=sampled, scheme=scheme, verifier=verifier))
    streams, stats = decoder.generate(tiny.requests(2, 0.8))
    assert [len(stream.token_ids) for stream in streams] == [24, 24]
    assert stats.num_accepted > 0


@pytest.mark.parametrize("scheme", ["coupled", "fixed"])
def test_a_dynamic_tree_grows_where_the_drafter_is_sure_and_keeps_to_its_sizes(scheme):
    decoder = build_decoder(tiny.pair(), SpeculationConfig(dynamic=(3, 2, 4), scheme=scheme, guard=False))
    requests = tiny.requests(1, 0.8, max_tokens=60)
    streams = decoder.open_streams(requests)
    records = [*decoder.steps(requests, streams)]
    (plain,), _ = build_decoder(tiny.pair(), SpeculationConfig()).generate(requests)
    assert streams[0].token_ids == plain.token_ids
    assert {record.kept.num_nodes.item() - 1 for record in records[:-3]} == {4}  # at its end the text needs fewer
    assert max(record.drafted.depths.max() for record in records) == 3
    assert len({tuple(record.kept.parents[0]) for record in records}) > 3  # shapes


@pytest.mark.parametrize("verifier", [name for name in VERIFIERS if name != "walk"])
def test_auto_takes_the_scheme_that_a_verifier_of_draws_was_the_fastest_under(verifier):
    sampled, named = (2, 3, 0) if verifier.startswith("hybrid") else (2, 1, 2), scheme_of(verifier)
    texts = [
        build_decoder(tiny.pair(), SpeculationConfig(sampled=sampled, scheme=scheme, verifier=verifier))
        .generate(tiny.requests(1, 0.8))[0][0]
        .token_ids
        for scheme in ("auto", named)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("tree", [{"tree": "[(0,), (1,)]"}, {"dynamic": (2, 2, 4)}], ids=str)
def test_auto_shares_the_noise_for_every_tree_that_is_not_sampled(tree):
    assert with_scheme(SpeculationConfig(**tree, scheme="auto")) == SpeculationConfig(**tree, scheme="coupled")
    assert with_scheme(SpeculationConfig(**tree, scheme="fixed")).scheme == "fixed"


TREE, LEARNED = {"tree": "[(0,)]"}, {"selector": Path("reference")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampled": (2, 1, 2)}, "under one of the schemes iid-paths, .* got no speculation.scheme"),
        ({"sampled": (2, 1, 2), "scheme": "coupled"}, "under one of the schemes iid-paths, .* got coupled"),
        ({"sampled": (2, 1, 2), "scheme": "iid-paths", "verifier": "greedy-plus-one"}, "use verifier 'traversal'"),
        ({"sampled": (2, 1, 2), "scheme": "iid-paths", "verifier": "luck"}, "no verifier is called 'luck'"),
        ({"sampled": (5, 1, 2), "scheme": "iid-paths", "verifier": "spectr-fixed"}, "at most 4 paths"),
        ({"sampled": (2, 1, 2), "scheme": "hybrid", "verifier": "hybrid-block"}, r"use \[2, 3, 0\]"),
        (TREE | {"sampled": (1, 1, 0), "scheme": "iid-paths"}, "a static tree and a sampled tree"),
        (TREE | {"dynamic": (2, 2, 2)}, "a static tree and a dynamic tree"),
        ({"dynamic": (2, 2, 2), "scheme": "iid-paths"}, "no drafting scheme is called 'iid-paths'"),
        ({"dynamic": (2, 0, 2)}, "dynamic's width is between 1 and 64, got 0"),
        ({"dynamic": (0, 2, 2)}, "dynamic's depth is between 1 and 64, got 0"),
        ({"dynamic": (2, 2, 5000)}, "dynamic's budget is between 1 and 4096, got 5000"),
        (TREE | {"min_prob": 1.5}, "speculation.min_prob is between 0 and 1, got 1.5"),
        (TREE | {"min_prob": float("nan")}, "speculation.min_prob is between 0 and 1, got nan"),
        (TREE | {"path_prob": -0.1}, "speculation.path_prob is between 0 and 1"),
        (LEARNED | {"theta_scale": 0.0}, "speculation.theta_scale is above 0, got 0.0"),
        ({"tree": str([(rank,) for rank in range(4097)])}, "speculation.tree is between 1 and 4096, got 4097"),
        # What would change nothing beside the others:
        ({"lookup": True}, "speculation.lookup does nothing without a static tree"),
        (
            TREE | {"datastore": (Path("notes.txt"),)},
            "speculation.datastore does nothing without speculation.lookup or",
        ),
        ({"min_prob": 0.1}, "speculation.min_prob does nothing without speculation.tree or"),
        (LEARNED | {"path_prob": 0.1}, "speculation.path_prob does nothing without speculation.tree or"),
        (TREE | {"theta_scale": 0.7}, "speculation.theta_scale does nothing without speculation.selector"),
        (TREE | {"verifier": "specinfer"}, "speculation.verifier does nothing without speculation.sampled or"),
        ({"memory": MemoryOptions(window=8)}, "speculation.memory does nothing without speculation.selector, tree"),
        (TREE | {"memory": MemoryOptions(eta=2.0)}, "^memory.eta does nothing without memory.window, for no"),
        (
            TREE | {"lookup": True, "memory": MemoryOptions(window=8)},
            "speculation.memory corrects a drafter model, and",
        ),
        ({"ahead": 4}, "speculation.ahead does nothing without speculation.selector or speculation.dynamic"),
        (TREE | {"ahead": 4}, "speculation.ahead does nothing without speculation.selector or speculation.dynamic"),
        ({"dynamic": (2, 2, 2), "ahead": 65}, "speculation.ahead is between 0 and 64, got 65"),
        ({"sampled": (2, 1, 2), "scheme": "iid-paths", "ahead": 4}, "draws from one drafter's own rows; leave it out"),
        ({"selector": Path("x"), "verifier": "block", "ahead": 4}, "draws from one drafter's own rows; leave it out"),
        (
            {"dynamic": (2, 2, 2), "ahead": 4, "memory": MemoryOptions(window=8)},
            "speculation.memory corrects a drafter that reads its own drafts",
        ),
        ({"scheme": "coupled"}, "speculation.scheme does nothing without speculation.tree"),
        (LEARNED | {"scheme": "coupled"}, "speculation.scheme does nothing without speculation.tree"),
        ({"scheme": "auto"}, "speculation.scheme does nothing without speculation.tree"),
        (LEARNED | {"scheme": "auto"}, "auto has nothing to choose: selector reference is for one scheme"),
        ({"sampled": (2, 1, 2), "scheme": "auto"}, "the walk takes a sampled tree of any scheme; give it a tree as"),
        ({"sampled": (2, 1, 2), "scheme": "auto", "verifier": "luck"}, "no verifier is called 'luck'"),
        (
            TREE | {"lookup": True, "scheme": "auto"},
            "drafts without the drafter's noise, under the fixed .* got 'auto'",
        ),
        (TREE | {"lookup": True, "scheme": "coupled"}, "speculation.lookup drafts without the drafter's noise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_together_is_refused_in_a_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        build_decoder(tiny.pair(), SpeculationConfig(**settings))


@pytest.mark.parametrize(("given", "used"), [(None, {0.5: 0.7, 1.0: 0.9}), (1.3, {0.0: 1.3})])
def test_a_selector_decodes_with_the_scales_that_replay_tuned_unless_one_is_given(given, used, tmp_path):
    pair = tiny.pair()
    ranked = {"coupled": {"0.5": {"learned": [{"theta_scale": 0.7}]}, "1": {"learned": [{"theta_scale": 0.9}]}}}
    folder = checkpoints.write(tmp_path / "selector", baselines_json=json.dumps(BASELINES | {"tuned": ranked}).encode())
    checkpoints.reseal(folder, lambda config: config.update(tokenizer_sha256=pair.tokenizer_sha256))
    replace(plans.TABLE, key=pair.latency_key).save(cache_path(pair.latency_key))
    decoder = build_decoder(pair, SpeculationConfig(selector=folder, theta_scale=given, guard=False))
    assert decoder.theta_scales == used
