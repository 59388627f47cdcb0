"""Log-probabilities are the target's own: those of one plain forward over the whole text, whatever was drafted."""

import pytest
import tiny
import torch
from failing import FailingModel
from treewright.controller.contract import IID_PATHS
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.log_probs import TextLogProbs
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

POSITIONS = 3 * CHUNK
DRAFTED = Selector(ConfidenceScorer(), TreeLimits(4, 3, 4, 10))
LONG = torch.randint(0, tiny.VOCABULARY_SIZE, (2 * CHUNK + 3,), generator=torch.Generator().manual_seed(1)).tolist()


def target():
    return tiny.llama(positions=POSITIONS)


def plain():
    return tiny.decoder(target())


def with_trees():
    return tiny.decoder(target(), tiny.llama(noise=0.02, positions=POSITIONS), DRAFTED)


def with_pages():
    """As on a device."""
    models = [tiny.llama(noise=noise, positions=POSITIONS) for noise in (0.0, 0.02)]
    sized = [StaticModel(model.model, model.vocabulary_size) for model in models]
    for model in sized:
        model.size(16 * CHUNK)
    return tiny.decoder(sized[0], sized[1], DRAFTED)


def with_memory():
    return tiny.decoder(
        target(), tiny.llama(noise=0.02, positions=POSITIONS), DRAFTED, memory=tiny.MemoryConfig(window=8)
    )


def with_sampled_trees():
    shape = sampled_shape(IID_PATHS, 2, 1, 2)
    return tiny.decoder(target(), tiny.llama(noise=0.02), shape, scheme=IID_PATHS, verifier="traversal")


def asked(num_top: int | None = 3, prompt_log_probs=True, max_tokens=24):
    """Prompts of one token, of a few and of several chunks, cut and scaled differently; the last asks for nothing."""
    prompts = ([4], [1, 2, 3], LONG, [7, 8])
    samplings = (Sampling(0.0), Sampling(0.7, top_k=5, seed=2), Sampling(1.3, top_p=0.8, seed=3), Sampling(seed=4))
    numbers = (num_top, num_top, num_top, None)
    return [
        Request(prompt, max_tokens, sampling, log_probs=number, prompt_log_probs=prompt_log_probs)
        for prompt, sampling, number in zip(prompts, samplings, numbers, strict=True)
    ]


def expected(prompt_ids, token_ids):
    """[n, V] of the tokens from the second on, by one forward."""
    text = torch.tensor([[*prompt_ids, *token_ids]])
    with torch.no_grad():
        return target().model(text).logits[0, :-1].log_softmax(dim=-1)


def scores_of(stream) -> TextLogProbs:
    assert stream.log_probs is not None
    return stream.log_probs


def assert_exact(request, stream):
    found = [*scores_of(stream).of_prompt, *scores_of(stream).of_text]
    tokens = [*request.prompt_ids, *stream.token_ids][-len(found) :]
    rows = expected(request.prompt_ids, stream.token_ids)[-len(found) :]
    assert [each.token for each in found] == tokens
    # Rows of a block of several tokens and of one differ in their last bits.
    own = torch.tensor([each.log_prob for each in found], dtype=torch.float64)
    torch.testing.assert_close(own, rows[range(len(found)), tokens], rtol=0, atol=1e-11)
    best = rows.topk(request.log_probs)
    assert [[token for token, _ in each.top] for each in found] == best.indices.tolist()
    top = torch.tensor([[log_prob for _, log_prob in each.top] for each in found], dtype=torch.float64)
    torch.testing.assert_close(top.view_as(best.values), best.values, rtol=0, atol=1e-11)


@pytest.mark.parametrize("make_decoder", [plain, with_trees, with_pages, with_memory, with_sampled_trees])
@pytest.mark.parametrize("prompt_log_probs", [False, True])
def test_log_probs_are_those_of_a_plain_forward_for_each_text_of_a_batch(make_decoder, prompt_log_probs):
    requests = asked(prompt_log_probs=prompt_log_probs)
    streams, _ = make_decoder().generate(requests)
    for request, stream in zip(requests[:-1], streams[:-1], strict=True):
        assert len(scores_of(stream).of_text) == len(stream.token_ids) == 24
        assert len(scores_of(stream).of_prompt) == (len(request.prompt_ids) - 1) * prompt_log_probs
        assert_exact(request, stream)
    assert streams[-1].log_probs is None


def test_asking_for_log_probs_changes_no_text():
    asking, not_asking = asked(), asked(num_top=None, prompt_log_probs=False)
    texts = [[stream.token_ids for stream in with_trees().generate(each)[0]] for each in (asking, not_asking)]
    assert texts[0] == texts[1]


def test_no_likeliest_and_all_of_them_may_be_asked_for():
    for num_top in (0, tiny.VOCABULARY_SIZE):
        request = asked(num_top)[1]
        (stream,), _ = with_trees().generate([request])
        assert_exact(request, stream)


def test_a_prompt_may_be_read_alone_beside_others():
    requests = [*asked(max_tokens=0)[:3], *asked()[1:]]
    streams, _ = with_trees().generate(requests)
    for request, stream in zip(requests[:-1], streams[:-1], strict=True):
        assert len(scores_of(stream).of_prompt) == len(request.prompt_ids) - 1
        assert stream.finish_reason == "length" and len(stream.token_ids) == request.max_tokens
        if len(request.prompt_ids) + request.max_tokens > 1:
            assert_exact(request, stream)
    (alone,), _ = with_trees().generate(asked()[1:2])
    assert streams[3].token_ids == alone.token_ids


def test_log_probs_survive_that_a_step_fails_and_each_text_is_decoded_alone():
    requests = asked()
    decoder = tiny.decoder(FailingModel(target(), crowded=3))
    streams, _ = decoder.generate(requests)
    for request, stream in zip(requests[:-1], streams[:-1], strict=True):
        assert len(scores_of(stream).of_prompt) == len(request.prompt_ids) - 1
        assert len(scores_of(stream).of_text) == len(stream.token_ids) == 24
        assert_exact(request, stream)


def test_a_text_that_ends_early_has_a_log_prob_for_each_of_its_tokens():
    request = asked()[1]
    (whole,), _ = plain().generate([request])
    end = whole.token_ids[10]
    decoder = tiny.decoder(target(), tiny.llama(noise=0.02), DRAFTED, end_tokens=frozenset({end}))
    (ended,), _ = decoder.generate([request])
    assert ended.token_ids == whole.token_ids[: whole.token_ids.index(end) + 1]
    assert [each.token for each in scores_of(ended).of_text] == ended.token_ids
