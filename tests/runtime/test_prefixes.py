"""A beginning that was read before is not read again, and every text is the one that it would be without."""

import logging
from dataclasses import replace

import heads
import numpy as np
import pytest
import tiny
import torch
from failing import FailingModel
from remembering import RememberingModel
from transformers import AutoModelForCausalLM, GptOssConfig
from treewright import cli
from treewright.controller.contract import COUPLED, IID_PATHS
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.eagle2 import eagle2
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.build import tree_decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.drafters.lookup import LookupDrafter
from treewright.runtime.drafters.ngrams.slots import SlotNgrams
from treewright.runtime.drafters.stacks.model import ModelStage
from treewright.runtime.drafters.stacks.stacked import StackedDrafter
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.prefixes.blocks import BLOCK
from treewright.runtime.prefixes.store import PrefixTotals
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

POSITIONS = 4 * CHUNK
LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
WITHOUT_NGRAMS = replace(LIMITS, ngrams=False)


def llama(noise=0.0, kind=TransformersModel):
    model = tiny.llama(noise=noise, positions=POSITIONS)
    return kind(model.model, model.vocabulary_size)


def policy(limits=LIMITS):
    return Selector(ConfidenceScorer(), limits)


def stacked():
    stage = ModelStage(LanguageModelDrafter(llama(0.05), COUPLED), 3)
    drafter = StackedDrafter(llama(0.02), COUPLED, stage, LIMITS.max_depth, texts=SlotNgrams(), drafts_ngrams=True)
    return tiny.decoder(llama(), drafter, replace(eagle2(LIMITS), all_depths=True))


def windowed():
    """With sinks, and a window in one of its two layers."""
    config = GptOssConfig(
        **tiny.SIZES,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention"],
        num_local_experts=2,
        num_experts_per_tok=1,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").to(torch.float64)
    return tiny.decoder(TransformersModel(model, tiny.VOCABULARY_SIZE), llama(0.02), policy())


def headed(folder):
    return tree_decoder(heads.head_pair(folder, llama()), COUPLED, policy(WITHOUT_NGRAMS))


DECODERS = {
    "plain": lambda _: tiny.decoder(llama()),
    "trees": lambda _: tiny.decoder(llama(), llama(0.02), policy()),
    "pages": lambda _: tiny.decoder(llama(kind=StaticModel), llama(0.02, StaticModel), policy()),
    "windows and sinks": lambda _: windowed(),
    "memory": lambda _: tiny.decoder(llama(), llama(0.02), policy(), memory=MemoryConfig(window=10)),
    "stack": lambda _: stacked(),
    "lookup": lambda _: tiny.decoder(llama(), LookupDrafter(), policy()),
    "drawn trees": lambda _: tiny.decoder(
        llama(), llama(0.02), sampled_shape(IID_PATHS, 3, 1, 2), IID_PATHS, verifier="specinfer"
    ),
    "eagle": lambda folder: headed(heads.write(folder / "head", heads.eagle_settings(), heads.eagle_weights())),
    "medusa": lambda folder: headed(heads.write_medusa(folder / "head", heads.medusa_weights())),
}


def reusing(decoder, num_tokens: int | None = 4096):
    """The same decoder, now with prefixes, and what it counts."""
    totals = PrefixTotals()
    decoder.keep_prefixes(num_tokens, totals)
    return decoder, totals


def tokens(size, seed=0):
    return np.random.default_rng(seed).integers(tiny.VOCABULARY_SIZE, size=size).tolist()


def request(prompt_ids, seed=0, max_tokens=6, scope=""):
    return Request(prompt_ids, max_tokens, Sampling(0.8, seed=seed), scope=scope)


def text_and_drafts(decoder, asked):
    (stream,) = decoder.open_streams([asked])
    drafted = [record.drafted.tokens.tolist() for record in decoder.steps([asked], [stream])]
    return stream.token_ids, drafted


@pytest.mark.parametrize("name", DECODERS)
def test_a_chat_that_goes_on_has_the_texts_and_the_drafts_that_it_has_without_prefixes(name, tmp_path):
    without, (decoder, totals) = DECODERS[name](tmp_path), reusing(DECODERS[name](tmp_path))
    prompt_ids, num_known = tokens(45), 0
    for turn, num_more in enumerate([1, 30, 3]):
        asked, num_reused = request(prompt_ids, turn), totals.tokens_reused
        text, drafts = text_and_drafts(decoder, asked)
        assert (text, drafts) == text_and_drafts(without, asked)
        # The last block is not whole, and a memory of ten positions reads those again.
        assert num_known - BLOCK - 11 <= totals.tokens_reused - num_reused <= num_known
        num_known = len(prompt_ids) + len(text)
        prompt_ids = [*prompt_ids, *text, *tokens(num_more, turn)]
    assert totals.hits == 2


@pytest.mark.parametrize("name", ["trees", "pages", "drawn trees"])
def test_texts_in_a_batch_are_those_without_prefixes_while_blocks_come_and_go(name, tmp_path):
    longest, num_tokens = (CHUNK + 50, 30 * BLOCK) if name == "trees" else (60, 10 * BLOCK)
    without, (decoder, totals) = DECODERS[name](tmp_path), reusing(DECODERS[name](tmp_path), num_tokens)
    generator = np.random.default_rng(1)
    systems = [tokens(size, size) for size in (longest, 20, 40)]
    asked = [
        request([*systems[generator.integers(3)], *tokens(generator.integers(1, 30), seed)], seed, 6, "ab"[seed % 2])
        for seed in range(14)
    ]
    streams, batch, coming = decoder.open_streams(asked), decoder.open_batch(), list(range(len(asked)))
    while coming or len(batch):
        for number in coming[: generator.integers(0, 3)] if len(batch) < 4 else []:
            batch.join(asked[number], streams[number])
            coming.remove(number)
        batch.step()
    assert [stream.token_ids for stream in streams] == [text_and_drafts(without, each)[0] for each in asked]
    assert totals.requests == 14 and 4 < totals.hits < 14
    assert totals.tokens_dropped > 0 and totals.tokens_held <= num_tokens


class CountingModel(TransformersModel):
    num_read = 0

    def forward(self, tokens, positions, parents, **options):
        self.num_read += tokens.size
        return super().forward(tokens, positions, parents, **options)

    def take_count(self):
        count, self.num_read = self.num_read, 0
        return count


def counting(noise=0.0):
    model = llama(noise)
    return CountingModel(model.model, model.vocabulary_size)


def test_both_models_read_only_what_is_behind_the_last_whole_block():
    target, drafter = counting(), counting(0.02)
    chain = TreeLimits(max_depth=1, width=1, frontier=1, budget=1)
    decoder, totals = reusing(tiny.decoder(target, drafter, policy(chain)))
    prompt_ids = tokens(4 * BLOCK)
    reads = []
    for prompt in (prompt_ids, prompt_ids, [*prompt_ids, 3, 4], prompt_ids[: 3 * BLOCK - 2], [5, *prompt_ids]):
        asked = request(prompt, max_tokens=2)
        (stream,), batch = decoder.open_streams([asked]), decoder.open_batch()
        batch.join(asked, stream)
        batch.step()
        reads.append((target.take_count(), drafter.take_count()))
        while len(batch):
            batch.step()
        for model in (target, drafter):
            model.take_count()
    # The target verifies a root and a node; where all is known, the root is read alone.
    assert reads == [(65, 64), (2, 1), (3, 2), (15, 14), (66, 65)]
    assert totals.tokens_reused == 63 + 64 + 2 * BLOCK
    assert (totals.requests, totals.hits, totals.prompt_tokens) == (5, 3, 64 + 64 + 66 + 46 + 65)


def test_a_text_reuses_what_a_neighbour_has_read_that_is_still_decoded():
    decoder, totals = reusing(DECODERS["trees"](None))
    prompt_ids = tokens(6 * BLOCK + 5)
    asked = [request([*prompt_ids, *tokens(7, seed)], seed, 30) for seed in range(3)]
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    batch.join(asked[0], streams[0])
    batch.step()
    batch.join(asked[1], streams[1])
    batch.join(replace(asked[2], scope="another"), streams[2])
    batch.step()
    assert streams[0].remaining and totals.tokens_reused == 6 * BLOCK
    while len(batch):
        batch.step()
    alone = [text_and_drafts(DECODERS["trees"](None), each)[0] for each in asked]
    assert [stream.token_ids for stream in streams] == alone


def test_nothing_crosses_scopes():
    decoder, totals = reusing(DECODERS["trees"](None))
    for scope, hits in (("a", 0), ("b", 0), ("", 0), ("b", 1), ("a", 2)):
        decoder.generate([request(tokens(40), scope=scope)])
        assert totals.hits == hits


def test_a_request_that_was_stopped_leaves_what_was_read():
    decoder, totals = reusing(DECODERS["trees"](None))
    asked = request(tokens(40), max_tokens=50)
    (stream,), batch = decoder.open_streams([asked]), decoder.open_batch()
    batch.join(asked, stream)
    batch.step()
    batch.leave(stream)
    assert totals.tokens_held == 2 * BLOCK


@pytest.mark.parametrize("beside", [0, 1])
def test_a_request_that_fails_leaves_nothing(beside):
    """And where a step of several fails, nor do those that are decoded alone then."""
    target = FailingModel(llama(), marked=90, max_length=65, step_rows=CHUNK + 1 + LIMITS.budget)
    decoder, totals = reusing(tiny.decoder(target, llama(0.02), policy()))
    asked = [request(tokens(60), 1, 30), *(request(tokens(50, 9), 2, 20) for _ in range(beside))]
    streams, batch = decoder.open_streams(asked), decoder.open_batch()
    for each, stream in zip(asked, streams, strict=True):
        batch.join(each, stream)
    while len(batch):
        batch.step()
    assert streams[0].error is not None
    assert totals.tokens_held == 0
    plain = tiny.decoder(llama())
    assert [stream.token_ids for stream in streams[1:]] == [text_and_drafts(plain, each)[0] for each in asked[1:]]
    again = replace(asked[0], max_tokens=20)
    assert text_and_drafts(decoder, again)[0] == text_and_drafts(plain, again)[0]
    assert totals.hits == 0 and totals.tokens_held > 0


def test_an_engine_that_keeps_its_rows_to_itself_reuses_nothing_and_says_so(caplog):
    decoder = tiny.decoder(RememberingModel(tiny.network(tiny.llama()), tiny.VOCABULARY_SIZE))
    with pytest.raises(InputError, match="prefix_tokens is 64, but the engine keeps the rows of its cache to itself"):
        decoder.keep_prefixes(64, PrefixTotals())
    with caplog.at_level(logging.WARNING):
        _, totals = reusing(decoder, None)
    assert caplog.messages == [
        "prefixes are not reused: the engine keeps the rows of its cache to itself, so every prompt is read whole"
    ]
    decoder.generate([request(tokens(40))])
    assert totals == PrefixTotals()


@pytest.mark.parametrize("num_tokens", [-1, 1, BLOCK - 1, 2**64])
def test_less_than_a_block_or_more_than_any_machine_holds_is_refused(num_tokens):
    with pytest.raises(InputError, match=f"prefix_tokens, if not 0, is between {BLOCK} and 1e.15, got {num_tokens}"):
        tiny.decoder(llama()).keep_prefixes(num_tokens, PrefixTotals())


def test_the_server_refuses_it_before_it_loads_a_model(capsys):
    assert cli.main(["serve", "--prefix_tokens", "5", "--pair.target", "no/such/model"]) == 2
    assert "prefix_tokens, if not 0, is between 16 and 1e+15, got 5" in capsys.readouterr().err


def test_more_than_there_is_memory_for_is_refused():
    with pytest.raises(InputError, match=r"prefix_tokens 10{15} take \d+\.\d GiB, which cannot be had"):
        tiny.decoder(llama()).keep_prefixes(10**15, PrefixTotals())


def test_none_are_kept_where_none_are_asked_for():
    decoder, totals = reusing(tiny.decoder(llama()), 0)
    decoder.generate([request(tokens(40))])
    assert totals == PrefixTotals()
