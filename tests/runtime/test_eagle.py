"""EAGLE-3 heads: the text stays plain, and the tree is what the head would draft without any cache."""

import json

import heads
import numpy as np
import pytest
import tiny
import torch
from heads import GROUPS, HEAD_SIZE, HEADS, TOKENS, eagle_settings, eagle_weights, write
from torch.nn.functional import silu
from treewright import cli
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.build import build_decoder, tree_decoder
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.speculation import SpeculationConfig

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)
TREE = "[(0,), (1,), (0, 0), (0, 1), (0, 0, 0)]"
NORMS = [
    {},
    {"norm_before_residual": True},
    {"norm_before_fc": True, "norm_output": True},
    {"fc_norm": True, "norm_before_residual": True, "norm_output": True},
]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "head", eagle_settings(), eagle_weights())


def tokens_of(decoder, requests):
    return [text.token_ids for text in decoder.generate(requests)[0]]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 0.8, "top_p": 0.95}], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("scorer", [ConfidenceScorer(), RankScorer.from_paths([(0,), (2,), (0, 1), (2, 0)])])
def test_a_random_head_generates_the_plain_text(folder, settings, batch, scheme, scorer):
    pair, requests = heads.head_pair(folder), tiny.requests(batch, **settings)
    texts, stats = tree_decoder(pair, scheme, Selector(scorer, LIMITS)).generate(requests)
    assert [text.token_ids for text in texts] == tokens_of(tiny.decoder(pair.target), requests)
    assert stats.num_kept > 0


def test_a_text_does_not_depend_on_the_requests_that_join_and_leave(folder):
    pair = heads.head_pair(folder, tiny.llama(positions=4 * CHUNK))
    generator = np.random.default_rng(4)
    lengths = [1, 2, 5, CHUNK // 2, 9, CHUNK + 30, 3, 3 * CHUNK + 40]
    asked = [
        Request(
            generator.integers(tiny.VOCABULARY_SIZE, size=lengths[number % len(lengths)]).tolist(),
            int(generator.integers(1, 24)),
            Sampling(seed=number, temperature=[0.0, 0.8][number % 2]),
        )
        for number in range(16)
    ]
    decoder = tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS))
    streams = decoder.open_streams(asked)
    batch, coming, num_mixed, left = decoder.open_batch(), list(range(len(asked))), 0, None
    while coming or len(batch):
        for number in coming[: generator.integers(0, 3)] if len(batch) < 5 else []:
            batch.join(asked[number], streams[number])
            coming.remove(number)
        record = batch.step()
        if record is not None:
            grew = record.drafted.num_nodes > 1
            num_mixed += bool(grew.any() and not grew.all())
        if left is None and 4 not in coming and streams[4].token_ids:
            batch.leave(streams[4])
            left = 4
    assert num_mixed > 0
    plain = tiny.decoder(pair.target)
    for request, stream in zip(asked, streams, strict=True):
        (alone,), _ = plain.generate([request])
        assert stream.token_ids == alone.token_ids[: len(stream.token_ids)]
        assert bool(stream.remaining) == (stream is streams[4])


class ListeningSampler(TokenSampler):
    """Keeps the rows that it is shown."""

    def warp(self, logits):
        self.heard = logits
        return super().warp(logits)


class PlainHead:
    """A head by its formulas: no cache, one text at a time, every row computed anew."""

    def __init__(self, weights, norms, target):
        self.weights, self.norms, self.target = weights, norms, target

    def norm(self, name, values):
        values32 = values.float()  # transformers' norms, too, round to it
        scaled = values32 * torch.rsqrt(values32.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weights[f"{name}.weight"] * scaled.double()

    def features(self, tokens):
        """[n, H] of tokens that the target reads."""
        with torch.inference_mode():
            hidden = self.target.model(torch.tensor([tokens]), use_cache=False, output_hidden_states=True).hidden_states
        states = [hidden[layer][0] for layer in heads.LAYERS]
        if "fc_norm" in self.norms:
            states = [self.norm(f"fc_norm.{index}", state) for index, state in enumerate(states)]
        wide = torch.cat(states, dim=-1)
        return (self.norm("input_norm", wide) if "norm_before_fc" in self.norms else wide) @ self.weights["fc.weight"].T

    def layer(self, tokens, features):
        """[n, H] outputs of rows 0 to n - 1, causally."""
        of = {name.removeprefix("layers.0."): weight for name, weight in self.weights.items()}
        normed = self.norm("layers.0.hidden_norm", features)
        embedded = self.norm("layers.0.input_layernorm", of["embed_tokens.weight"][tokens])
        both = torch.cat((embedded, normed), dim=-1)
        turned = [
            self.turn((both @ of[f"self_attn.{name}_proj.weight"].T).unflatten(-1, (-1, HEAD_SIZE))) for name in "qk"
        ]
        values = (both @ of["self_attn.v_proj.weight"].T).unflatten(-1, (GROUPS, HEAD_SIZE))
        group = [number * GROUPS // HEADS for number in range(HEADS)]
        scores = torch.einsum("nhd,mhd->hnm", turned[0], turned[1][:, group]) / HEAD_SIZE**0.5
        scores = scores.masked_fill(~torch.ones(scores.shape[1:], dtype=torch.bool).tril(), -torch.inf)
        attended = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), values[:, group]).flatten(1)
        hidden = (normed if "norm_before_residual" in self.norms else features) + attended @ of[
            "self_attn.o_proj.weight"
        ].T
        inner = self.norm("layers.0.post_attention_layernorm", hidden)
        gate, up = (inner @ of[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        return hidden + (silu(gate) * up) @ of["mlp.down_proj.weight"].T

    def turn(self, values):
        frequencies = 1.0 / 10000.0 ** (torch.arange(0, HEAD_SIZE, 2).float() / HEAD_SIZE)
        angles = torch.arange(len(values)).float()[:, None] * frequencies
        cos, sin = (f(torch.cat((angles, angles), dim=-1)).double()[:, None] for f in (torch.cos, torch.sin))
        half = HEAD_SIZE // 2
        return values * cos + torch.cat((-values[..., half:], values[..., :half]), dim=-1) * sin

    def logits(self, text, path):
        """[V] behind a text, its root the last token, and a drafted path."""
        features = self.features(text)[:-1]
        tokens = list(text[1:])
        outputs = self.layer(tokens, features)
        for token in path:
            last = self.norm("norm", outputs[-1:]) if "norm_output" in self.norms else outputs[-1:]
            features, tokens = torch.cat((features, last)), [*tokens, token]
            outputs = self.layer(tokens, features)
        rows = torch.full((tiny.VOCABULARY_SIZE,), -torch.inf, dtype=torch.float64)
        rows[TOKENS] = self.weights["lm_head.weight"] @ self.norm("norm", outputs[-1])
        return rows


def nodes_to(tree, row, node):
    nodes = []
    while node > 0:
        nodes.append(node)
        node = int(tree.parents[row, node])
    return nodes[::-1]


def path_to(tree, row, node):
    return tree.tokens[row, nodes_to(tree, row, node)].tolist()


@pytest.mark.parametrize("flags", NORMS, ids=lambda flags: "+".join(flags) or "plain")
def test_every_level_is_what_the_head_says_without_a_cache_step_after_step(tmp_path, flags):
    weights = eagle_weights(norms=tuple(flags))
    pair = heads.head_pair(write(tmp_path / "head", eagle_settings(**flags), weights))
    plain, generator = PlainHead(weights, flags, pair.target), np.random.default_rng(6)
    target, drafter = heads.drafting(pair, FIXED)
    texts = [generator.integers(tiny.VOCABULARY_SIZE, size=length).tolist() for length in (9, 4, 30, 1)]
    sampler = ListeningSampler([Sampling(temperature=0.9)] * 4, tiny.VOCABULARY_SIZE, pair.target.device)
    target.open()
    drafter.open()
    for text in texts:
        target.join(np.array(text), 200)
        drafter.join(np.array(text), 200)
    target.read(0, 8)  # the others are read with their first trees
    num_compared = 0
    for _ in range(4):
        tree = DraftTree.from_roots(np.array([text[-1] for text in texts]))
        for level in range(3):
            frontier = np.full((4, 2), -1)
            for row in range(4):
                nodes = np.nonzero(tree.depths[row] == level)[0]
                chosen = generator.permutation(nodes)[: generator.integers(0, 3)] if level else nodes
                frontier[row, : len(chosen)] = np.sort(chosen)
            if (frontier < 0).all():
                break
            grown = drafter.expand(tree, frontier, 3, sampler)
            for row, index in zip(*np.nonzero(frontier >= 0), strict=True):
                node = int(frontier[row, index])
                if not (grown.parents[row] == node).any():
                    continue
                expected = plain.logits(texts[row], path_to(tree, row, node))
                torch.testing.assert_close(sampler.heard[row, index], expected, rtol=0, atol=1e-10)
                num_compared += 1
            tree = grown
        target.score(tree)
        path, next_tokens = np.full((4, 3), -1), generator.integers(tiny.VOCABULARY_SIZE, size=4)
        for row in range(4):
            last = int(generator.integers(tree.num_nodes[row]))
            nodes = nodes_to(tree, row, last)
            path[row, : len(nodes)] = nodes
            texts[row] += [*path_to(tree, row, last), int(next_tokens[row])]
        target.commit(path)
        drafter.commit(tree, path, next_tokens)
    assert num_compared > 30


def test_only_tokens_of_the_heads_vocabulary_are_drafted(folder):
    requests = tiny.requests(3, 0.9)
    decoder = tree_decoder(heads.head_pair(folder), COUPLED, Selector(ConfidenceScorer(), LIMITS))
    drafted = {
        int(token)
        for record in decoder.steps(requests, decoder.open_streams(requests))
        for tokens, depths in zip(record.drafted.tokens, record.drafted.depths, strict=True)
        for token in tokens[depths > 0]
    }
    assert len(drafted) > 10 and drafted <= set(TOKENS)


def test_nothing_is_drafted_before_the_prompt_is_read(folder):
    decoder = tree_decoder(heads.head_pair(folder), FIXED, Selector(ConfidenceScorer(), LIMITS))
    requests = tiny.requests(1, 0.0)
    records = list(decoder.steps(requests, decoder.open_streams(requests)))
    assert records[0].drafted.num_nodes.tolist() == [1]
    assert all(record.drafted.num_nodes[0] > 1 for record in records[1:-1])  # the last token stands alone


def test_a_head_that_knows_the_targets_distribution_is_always_believed(tmp_path):
    """Both find every token equally likely, so that coupled drafts are the target's own draws."""
    tokens = list(range(tiny.VOCABULARY_SIZE))
    weights = eagle_weights(tokens=tokens)
    weights["lm_head.weight"] *= 0.0
    target = tiny.llama()
    target.model.lm_head.weight.data.zero_()
    settings = eagle_settings(draft_vocab_size=len(tokens))
    pair = heads.head_pair(write(tmp_path / "head", settings, weights), target)
    chain = Selector(RankScorer.from_paths([(0,), (0, 0), (0, 0, 0)]), TreeLimits(3, 1, 1, 3))
    texts, stats = tree_decoder(pair, COUPLED, chain).generate(tiny.requests(2, 1.0, max_tokens=25))
    assert len({*texts[0].token_ids}) > 10
    assert stats.num_steps == 14  # one token alone, then 24 in blocks of 4, for two requests


def test_a_head_reads_the_hidden_state_of_the_token_before_the_root(tmp_path):
    """The target counts: behind token t comes t + 1. The head adds two to the last token that the target has read."""
    (target, directions), weights = heads.counting_target(), eagle_weights(tokens=list(range(tiny.VOCABULARY_SIZE)))
    for name in ("layers.0.self_attn.o_proj.weight", "layers.0.mlp.down_proj.weight"):
        weights[name] *= 0.0
    nothing = torch.zeros(heads.SIZE, 2 * heads.SIZE, dtype=torch.float64)
    weights["fc.weight"] = torch.cat((torch.eye(heads.SIZE, dtype=torch.float64), nothing), dim=1)
    weights["norm.weight"] = torch.ones(heads.SIZE, dtype=torch.float64)
    weights["lm_head.weight"] = directions.roll(2, dims=0)
    settings = eagle_settings(draft_vocab_size=tiny.VOCABULARY_SIZE)
    pair = heads.head_pair(write(tmp_path / "head", settings, weights), target)
    one = Selector(RankScorer.from_paths([(0,)]), TreeLimits(1, 1, 1, 1))
    (text,), stats = tree_decoder(pair, COUPLED, one).generate([Request([5, 6], 21, Sampling(temperature=0.0))])
    assert text.token_ids == [(7 + index) % tiny.VOCABULARY_SIZE for index in range(21)]
    assert stats.num_steps == 11


def test_a_head_without_embeddings_has_the_targets(tmp_path):
    target, weights = tiny.llama(), eagle_weights()
    weights["embed_tokens.weight"] = target.model.model.embed_tokens.weight.data.clone()
    own = heads.head_pair(write(tmp_path / "own", eagle_settings(), weights), target)
    del weights["embed_tokens.weight"]
    none = heads.head_pair(write(tmp_path / "none", eagle_settings(), weights), target)
    trees = []
    for pair in (own, none):
        decoder, requests = tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS)), tiny.requests(1, 0.8)
        trees.append([record.drafted for record in decoder.steps(requests, decoder.open_streams(requests))])
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(*trees, strict=True))


@pytest.fixture
def folders(tmp_path, folder):
    """A target's folder and a head's, as they lie on a disk."""
    pair = heads.head_pair(folder)
    tiny.network(pair.target).save_pretrained(tmp_path / "target")
    tiny.words().fast.save_pretrained(tmp_path / "target")
    return str(tmp_path / "target"), folder


def test_a_head_decodes_by_its_folder(folders, capsys):
    pair = load_pair(PairConfig(*folders, dtype="float64"), heads=True)
    requests = tiny.requests(3, 0.8)
    texts, stats = build_decoder(pair, SpeculationConfig(tree=TREE, guard=False)).generate(requests)
    assert [text.token_ids for text in texts] == tokens_of(tiny.decoder(tiny.llama()), requests)
    assert stats.num_kept > 0
    arguments = ["generate", "--prompt", "w1 w2 w3", "--pair.target", folders[0], "--pair.drafter", folders[1]]
    arguments += ["--text.max_tokens", "12"]
    outputs = []
    for speculation in ([], ["--speculation.tree", TREE], ["--speculation.dynamic", "[3, 2, 5]"]):
        assert cli.main([*arguments, *speculation]) == 0
        outputs.append(json.loads(capsys.readouterr().out.splitlines()[-1])["text"])
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"selector": "reference"}, "static and dynamic trees only, got a selector"),
        ({"sampled": (2, 1, 1)}, "got a sampled tree"),
    ],
)
def test_a_head_drafts_static_and_dynamic_trees_alone(folder, asked, complaint):
    with pytest.raises(InputError, match=complaint):
        build_decoder(heads.head_pair(folder), SpeculationConfig(**asked))


def test_traces_and_tables_need_a_drafter_model(folders, tmp_path, capsys):
    arguments = ["--pair.target", folders[0], "--pair.drafter", folders[1]]
    for command in (["profile"], ["collect", "--out", str(tmp_path / "out")]):
        assert cli.main([*command, *arguments]) == 2
        assert "an EAGLE-3 head, which drafts in" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="give a drafter model"):
        _ = heads.head_pair(folders[1]).drafter


def without(name):
    return {other: weight for other, weight in eagle_weights().items() if other != name}


LAYER = eagle_settings()["transformer_layer_config"]
BAD = {
    r"lacks the weight 'layers\.0\.mlp\.up_proj\.weight' \(1 in all\)": (
        {},
        without("layers.0.mlp.up_proj.weight"),
    ),
    "reads hidden states of 48 numbers, but the target's have 32": ({"target_hidden_size": 48}, eagle_weights()),
    "'fc.weight' is 32 x 64, but .* ask for 32 x 96": ({}, eagle_weights(num_states=2)),
    "has a weight 'input_norm.weight' that": ({}, eagle_weights(norms=("norm_before_fc",))),
    "'d2t' has 3 entries for 20 draft tokens": ({}, eagle_weights() | {"d2t": torch.zeros(3, dtype=torch.int64)}),
    "'d2t' does not name 20 different tokens from 0 to 39": (
        {},
        eagle_weights() | {"d2t": torch.full((20,), 30)},
    ),
    "drafts 20 of 40 tokens but has no 'd2t'": ({}, without("d2t")),
    r"reads before the layers \[2, 1, -1\] of the target, which has layers 0 to 1": (
        {"eagle_aux_hidden_state_layer_ids": None},
        eagle_weights(),
    ),
    r"transformer_layer_config is no layer \(.* not a multiple": (
        {"transformer_layer_config": LAYER | {"num_attention_heads": 5}},
        eagle_weights(),
    ),
    "has no transformer_layer_config": ({"transformer_layer_config": None}, eagle_weights()),
    "made of 2 'llama' layers": ({"transformer_layer_config": LAYER | {"num_hidden_layers": 2}}, eagle_weights()),
    "knows 30 tokens, but the target's tokenizer has 40": (
        {"transformer_layer_config": LAYER | {"vocab_size": 30}},
        eagle_weights(),
    ),
}


@pytest.mark.parametrize("complaint", BAD)
def test_a_bad_head_is_refused_in_a_sentence(tmp_path, complaint):
    changes, weights = BAD[complaint]
    folder = write(tmp_path / "head", eagle_settings(**changes), weights)
    with pytest.raises(InputError, match=complaint):
        heads.head_pair(folder)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('{"speculators_model_type": "dflash"}', "of the kind 'dflash', which is not supported"),
        ('{"draft_vocab_size": 10}', "not in the layout of `speculators`"),
        ("{", r"config\.json cannot be read"),
        ("[]", "holds no JSON object"),
    ],
)
def test_other_heads_are_refused_by_name(folders, tmp_path, settings, complaint):
    (tmp_path / "head" / "config.json").write_text(settings)
    with pytest.raises(InputError, match=complaint):
        load_pair(PairConfig(*folders), heads=True)


def test_pickled_and_damaged_weights_are_not_read(folders, tmp_path):
    file = tmp_path / "head" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        load_pair(PairConfig(*folders), heads=True)
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(InputError, match=r"pickled ones .* are never read"):
        load_pair(PairConfig(*folders), heads=True)
