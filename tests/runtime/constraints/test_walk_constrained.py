"""Trees generate the text that plain decoding does under the same constraints, whatever was drafted."""

import json
import re
from dataclasses import replace

import heads
import pytest
import tiny
from constrained import END, KINDS, characters, compiled, requests
from treewright.controller.contract import COUPLED, FIXED, IID_PATHS
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.build import tree_decoder
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.drafters.lookup import LookupDrafter
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)
NGRAMS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
STATIC = RankScorer.from_paths([(0,), (1,), (0, 0), (0, 2), (0, 2, 0)])
JSON = compiled("json")
SETTINGS = [{"temperature": 0.0}, {"temperature": 0.9}, {"temperature": 1.3, "top_k": 12, "top_p": 0.9}]


def drafting(name):
    drafter = tiny.llama(noise=0.02)
    if name == "lookup":
        return LookupDrafter(), Selector(STATIC, LIMITS)
    if name == "sampled":
        return LanguageModelDrafter(drafter, IID_PATHS), sampled_shape(IID_PATHS, 3, 1, 2)
    scheme = FIXED if name == "static" else COUPLED
    scorer, limits = (
        (STATIC, LIMITS) if name == "static" else (ConfidenceScorer(), NGRAMS if name == "ngrams" else LIMITS)
    )
    return LanguageModelDrafter(drafter, scheme, ngrams=limits.ngrams), Selector(scorer, limits)


def decoder(name=None):
    drafter, selector = (None, None) if name is None else drafting(name)
    of_text = tiny.detokeniser(characters())
    ends = frozenset({END})
    return Decoder(Target(tiny.llama()), WalkVerifier(), of_text, ends, drafter=drafter, selector=selector)


def seen(streams):
    return [(stream.token_ids, stream.text, stream.finish_reason) for stream in streams]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("dynamic", each) for each in SETTINGS),
        *((name, SETTINGS[1]) for name in ("static", "ngrams", "sampled")),
        ("lookup", SETTINGS[0]),
    ],
    ids=str,
)
def test_a_batch_of_unlike_requests_has_the_plain_texts(name, settings):
    plain, _ = decoder().generate(requests(**settings))
    trees, stats = decoder(name).generate(requests(**settings))
    assert seen(trees) == seen(plain)
    assert stats.num_accepted > 0


def test_a_text_is_what_it_is_alone():
    kinds = ["all together", "json", "grammar"]
    together, _ = decoder("dynamic").generate(requests(0.9, kinds, seed=50))
    alone = [decoder("dynamic").generate([request])[0][0] for request in requests(0.9, kinds, seed=50)]
    assert seen(alone) == seen(together)


def test_each_kind_of_constraint_changes_the_text():
    kinds = [kind for kind in KINDS if kind != "nothing"]
    plain, _ = decoder().generate(requests(1.3, ["nothing"] * len(kinds)))
    others, _ = decoder().generate(requests(1.3, kinds))
    texts = zip(kinds, plain, others, strict=True)
    assert [kind for kind, one, other in texts if one.token_ids == other.token_ids] == []


def test_texts_follow_their_grammars_to_the_end():
    for seed in (0, 10, 20):
        kinds = ["json", "regex", "choices", "grammar"]
        streams, _ = decoder("dynamic").generate(requests(0.6, kinds, seed=seed, max_tokens=80))
        of_json, of_regex, of_choices, of_grammar = (
            stream.text if stream.finish_reason == "stop" else None for stream in streams
        )
        assert of_json is None or json.loads(of_json)["b"] in ("on", "off")
        assert of_regex is None or re.fullmatch("(ab|cd)[0-9]{2,5}(, [a-f]+)*", of_regex)
        assert of_choices in ("on", "off", "onto", "no")
        assert of_grammar is None or json.loads(of_grammar) is not None


@pytest.mark.parametrize("name", ["eagle", "medusa"])
def test_heads_on_the_targets_hidden_states_draft_under_constraints_too(name, tmp_path):
    folder = tmp_path / name
    if name == "eagle":
        pair = heads.head_pair(heads.write(folder, heads.eagle_settings(), heads.eagle_weights()))
    else:
        pair = heads.head_pair(heads.write_medusa(folder, heads.medusa_weights()))
    pair = replace(pair, tokenizer=tiny.words(characters()), end_tokens=frozenset({END}))
    limits = TreeLimits(max_depth=3, width=3, frontier=3, budget=10)
    plain, _ = decoder().generate(requests(0.9))
    trees, _ = tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), limits)).generate(requests(0.9))
    assert seen(trees) == seen(plain)
    assert num_banned_drafts(tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), limits))) == 0


def test_what_a_mask_bans_is_not_drafted():
    """Neither by the drafter, nor by what follows in the text elsewhere."""
    assert [num_banned_drafts(decoder(name)) for name in ("dynamic", "ngrams", "lookup", "sampled")] == [0] * 4


def num_banned_drafts(of):
    """Nodes with a token that the grammar does not take there."""
    request, count = requests(0.9, ["json"]), 0
    streams, before = of.open_streams(request), []
    for record in of.steps(request, streams):
        tree = record.kept
        paths = [[tree.tokens[0, at] for at in path_to(tree, node)] for node in range(1, int(tree.num_nodes[0]))]
        for *above, token in paths:
            if END not in above:
                matcher = JSON.root.deep_copy()
                assert matcher.consume_tokens([*before, *above])
                allowed = matcher.compute_bitmask()
                count += not allowed[token // 8] >> token % 8 & 1
        before = [*streams[0].token_ids]
    return count


def path_to(tree, node):
    return [*path_to(tree, tree.parents[0, node]), node] if node else []
