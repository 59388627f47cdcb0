"""From a configuration to a decoder: sampled trees and their verifiers."""

import pytest
import tiny
from treewright.controller.contract import VERIFIERS
from treewright.controller.errors import InputError
from treewright.runtime.speculation import SpeculationConfig, build_decoder


def law_of(verifier):
    own = {"rrsw": "without-replacement", "greedy-plus-one": "greedy-plus-one"}
    return "hybrid" if verifier.startswith("hybrid") else own.get(verifier, "iid-paths")


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_every_verifier_can_be_asked_for(verifier):
    law = law_of(verifier)
    sampled = (2, 3, 0) if law == "hybrid" else (2, 1, 2)
    decoder = build_decoder(tiny.pair(), SpeculationConfig(sampled=sampled, law=law, verifier=verifier))
    streams, stats = decoder.generate(tiny.requests(2, 0.8))
    assert [len(stream.token_ids) for stream in streams] == [24, 24]
    assert stats.num_accepted > 0


@pytest.mark.parametrize("law", ["coupled", "fixed"])
def test_a_dynamic_tree_grows_where_the_drafter_is_sure_and_keeps_to_its_sizes(law):
    decoder = build_decoder(tiny.pair(), SpeculationConfig(dynamic=(3, 2, 4), law=law, guard=False))
    requests = tiny.requests(1, 0.8, max_tokens=60)
    streams = decoder.open_streams(requests)
    records = [*decoder.steps(requests, streams)]
    (plain,), _ = build_decoder(tiny.pair(), SpeculationConfig()).generate(requests)
    assert streams[0].token_ids == plain.token_ids
    assert {record.kept.num_nodes.item() - 1 for record in records[:-3]} == {4}  # at its end the text needs fewer
    assert max(record.drafted.depths.max() for record in records) == 3
    assert len({tuple(record.kept.parents[0]) for record in records}) > 3  # shapes


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SpeculationConfig(sampled=(2, 1, 2)), "under one of the laws iid-paths, .* got 'coupled'"),
        (SpeculationConfig(sampled=(2, 1, 2), law="iid-paths", verifier="greedy-plus-one"), "use verifier 'traversal'"),
        (SpeculationConfig(sampled=(2, 1, 2), law="iid-paths", verifier="luck"), "no verifier is called 'luck'"),
        (SpeculationConfig(sampled=(5, 1, 2), law="iid-paths", verifier="spectr-fixed"), "at most 4 paths"),
        (SpeculationConfig(sampled=(2, 1, 2), law="hybrid", verifier="hybrid-block"), r"use \[2, 3, 0\]"),
        (SpeculationConfig(tree="[(0,)]", verifier="specinfer"), "judges sampled trees only"),
        (SpeculationConfig(tree="[(0,)]", sampled=(1, 1, 0), law="iid-paths"), "a static tree and a sampled tree"),
        (SpeculationConfig(tree="[(0,)]", dynamic=(2, 2, 2)), "a static tree and a dynamic tree"),
        (SpeculationConfig(dynamic=(2, 2, 2), law="iid-paths"), "no drafting law is called 'iid-paths'"),
        (SpeculationConfig(dynamic=(2, 0, 2)), "width is at least 1, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_go_together_is_refused_in_a_sentence(config, said):
    with pytest.raises(InputError, match=said):
        build_decoder(tiny.pair(), config)
