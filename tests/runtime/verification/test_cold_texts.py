"""The decode loop under every verifier, in float32, where the target can generate one text only."""

from functools import cache

import pytest
import tiny
import torch
from treewright.controller.contract import SAMPLED_SCHEMES, VERIFIERS
from treewright.controller.plans.sampled_grids import CHAIN_VERIFIERS
from treewright.controller.policies.delayed import sampled_shape
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

ALLOWED = [(scheme, name) for name, terms in VERIFIERS.items() for scheme in SAMPLED_SCHEMES if scheme in terms.schemes]
TEMPERATURES = (0.1, 0.03, 0.01, 0.003, 0.001, 1e-6)
ALWAYS_GREEDY = (Sampling(1e-40), Sampling(5e-324), Sampling(top_p=1e-50), Sampling(top_k=1))
NUM_TOKENS = 6
# In temperatures: a token that far behind the best one is drawn once in a billion times.
SURE_LEAD = 24.0


@cache
def models():
    """Two models, sure enough of their tokens for a text that is certain at the highest temperature as well."""
    target, drafter = tiny.llama(dtype=torch.float32), tiny.llama(noise=0.1, dtype=torch.float32)
    for model in (target, drafter):
        model.model.lm_head.weight.data *= 8.0
    return target, drafter


def greedy_text(prompt):
    """The text, and the least lead that one of its tokens had."""
    text, leads = [*prompt], []
    for _ in range(NUM_TOKENS):
        with torch.no_grad():
            best = models()[0].model(input_ids=torch.tensor([text])).logits[0, -1].topk(2)
        leads.append(float(best.values[0] - best.values[1]))
        text.append(int(best.indices[0]))
    return text[len(prompt) :], min(leads)


@cache
def requests_and_texts():
    """Every prompt at the temperatures at which its greedy text is certain, under two seeds."""
    generator = torch.Generator().manual_seed(3)
    requests, texts = [], []
    for prompt in torch.randint(0, tiny.VOCABULARY_SIZE, (4, 4), generator=generator).tolist():
        text, lead = greedy_text(prompt)
        samplings = [Sampling(each, seed=seed) for each in TEMPERATURES if lead > each * SURE_LEAD for seed in (1, 2)]
        for sampling in (*samplings, *ALWAYS_GREEDY):
            requests.append(Request(prompt, NUM_TOKENS, sampling, ignore_end=True))
            texts.append(text)
    return requests, texts


def test_every_temperature_is_there():
    found = {request.sampling.temperature for request in requests_and_texts()[0]}
    assert found > set(TEMPERATURES)


def test_plain_decoding_generates_the_greedy_text():
    requests, texts = requests_and_texts()
    streams, _ = tiny.decoder(models()[0]).generate(requests)
    assert [stream.token_ids for stream in streams] == texts


@pytest.mark.parametrize(("scheme", "verifier"), ALLOWED)
def test_sampled_trees_generate_the_greedy_text(scheme, verifier):
    requests, texts = requests_and_texts()
    shape = (3, 2, 0) if scheme == "hybrid" else (1, 0, 3) if verifier in CHAIN_VERIFIERS else (3, 0, 2)
    decoder = tiny.decoder(
        *models(), sampled_shape(SAMPLED_SCHEMES[scheme], *shape), scheme=SAMPLED_SCHEMES[scheme], verifier=verifier
    )
    streams, stats = decoder.generate(requests)
    assert [stream.token_ids for stream in streams] == texts
    assert 0 < stats.num_accepted < stats.num_kept
