"""What every engine and adapter owes its user: the target's own text, stops, batches, refusals, seeds."""

from functools import cache

import hosting
import numpy as np
import pytest
from hosting import Options

DRAWN = Options(temperature=0.8)
CUT = Options(temperature=1.2, top_k=12, top_p=0.9)


@pytest.fixture(params=[pytest.param(name, marks=hosting.MARKS.get(name, ())) for name in hosting.HOSTED])
def host(request):
    return made(request.param)


@cache
def made(name):
    return hosting.HOSTED[name]()


def prompts(host, lengths=(3, 9, 5)):
    generator = np.random.default_rng(3)
    return [generator.integers(1, host.vocabulary_size - 1, length).tolist() for length in lengths]


@pytest.mark.parametrize("options", [Options(), DRAWN, CUT], ids=["greedy", "drawn", "cut"])
def test_trees_generate_the_plain_text_in_fewer_steps(options, host):
    plain = host.run(prompts(host), options, drafts=False)
    trees = host.run(prompts(host), options, drafts=True)
    assert trees.texts == plain.texts
    assert trees.num_steps < plain.num_steps
    assert [len(text) for text in trees.texts] == [options.max_tokens] * 3


@pytest.mark.parametrize("options", [Options(), DRAWN], ids=["greedy", "drawn"])
def test_a_text_does_not_depend_on_its_neighbours(options, host):
    first = prompts(host)[0]
    alone = host.run([first], options, drafts=True)
    assert host.run(prompts(host), options, drafts=True).texts[0] == alone.texts[0]


def test_a_text_ends_with_its_end_token_and_the_others_go_on(host):
    whole = host.run(prompts(host), Options(), drafts=False).texts
    end = whole[0][5]
    ended = host.run(prompts(host), Options(end=end), drafts=True).texts
    assert ended == [text[: text.index(end) + 1] if end in text else text for text in whole]
    assert len(ended[0]) <= 6


def test_a_seed_gives_its_text_and_another_seed_another(host):
    again = [host.run(prompts(host), Options(temperature=1.0, seed=seed), drafts=True).texts for seed in (5, 5, 6)]
    assert again[0] == again[1] != again[2]


def test_a_text_may_fill_the_context_to_its_end(host):
    (prompt,) = prompts(host, lengths=(host.context_length - 12,))
    options = Options(max_tokens=12)
    assert host.run([prompt], options, drafts=True).texts == host.run([prompt], options, drafts=False).texts


def test_a_prompt_that_cannot_be_decoded_is_refused_and_the_next_call_is_served(host):
    (good,) = prompts(host, lengths=(4,))
    text = host.run([good], Options(), drafts=True).texts
    for bad in ([], [host.vocabulary_size + 7], [1] * (host.context_length + 1)):
        with pytest.raises(host.refusals):
            host.run([bad], Options(), drafts=True)
        assert host.run([good], Options(), drafts=True).texts == text


def test_a_call_that_is_given_up_leaves_nothing_behind(host):
    text = host.run(prompts(host), DRAWN, drafts=True).texts
    host.abandon(prompts(host), DRAWN, after=4)
    assert host.run(prompts(host), DRAWN, drafts=True).texts == text
