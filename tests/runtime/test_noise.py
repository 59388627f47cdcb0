"""The keyed noise is the product's random number generator: known answers, distribution, independence."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, kstest, power_divergence
from treewright.runtime.noise import NUM_DRAWS, STEP_MARK, KeyedNoise, StepNoise, gumbel, noise_key, step_gumbel
from treewright.runtime.philox import gumbel_in_torch, gumbel_rows, philox
from treewright.runtime.sampling import Sampling, TokenSampler

# A correct generator falls below this once in ten thousand seeds; the seeds here are fixed.
LEAST_P_VALUE = 1e-4
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0], dtype=torch.float64)


def words(*values):
    first, second, third, fourth = (torch.tensor([value], dtype=torch.int64) for value in values)
    return first, second, third, fourth


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    assert tuple(int(word) for word in philox(words(*counter), key)) == expected


def test_noise_is_standard_gumbel():
    sample = gumbel(5, 0, torch.arange(200), 500).flatten().numpy()
    assert kstest(sample, "gumbel_r").pvalue > LEAST_P_VALUE


def draw(seeds, positions):
    """Tokens drawn from softmax(LOGITS) at each (seed, position)."""
    return np.array(
        [(LOGITS + gumbel(seed, 0, torch.as_tensor(positions), len(LOGITS))).argmax(-1).numpy() for seed in seeds]
    )


def g_test(tokens, probs):
    counts = np.bincount(tokens.ravel(), minlength=len(probs))
    return power_divergence(counts, probs * tokens.size, lambda_="log-likelihood").pvalue


def test_tokens_over_positions_follow_the_softmax():
    assert g_test(draw([3], range(50_000)), LOGITS.softmax(-1).numpy()) > LEAST_P_VALUE


def test_tokens_over_seeds_follow_the_softmax():
    assert g_test(draw(range(10_000), [17]), LOGITS.softmax(-1).numpy()) > LEAST_P_VALUE


def test_the_test_itself_catches_a_small_bias():
    probs = LOGITS.softmax(-1).numpy()
    biased = probs + np.array([0.01, -0.01, 0, 0, 0, 0, 0, 0])
    assert g_test(draw([3], range(50_000)), biased) < LEAST_P_VALUE


def independent(first, second):
    table = np.histogram2d(first, second, bins=(np.arange(9), np.arange(9)))[0]
    result: Any = chi2_contingency(table, lambda_="log-likelihood")  # scipy makes its class at run time
    return result.pvalue > LEAST_P_VALUE


def test_tokens_at_neighbouring_positions_are_independent():
    tokens = draw([9], range(40_000))[0]
    assert independent(tokens[:-1], tokens[1:])


def test_tokens_of_neighbouring_seeds_are_independent():
    tokens = draw([20, 21], range(40_000))
    assert independent(tokens[0], tokens[1])


def test_tokens_of_two_choices_of_one_seed_are_independent():
    first, second = (gumbel(4, choice, torch.arange(40_000), 8) for choice in (0, 1))
    assert independent((LOGITS + first).argmax(-1).numpy(), (LOGITS + second).argmax(-1).numpy())


def test_noise_does_not_depend_on_how_it_is_asked_for():
    noise = KeyedNoise(7, 1, 1000)
    positions = [5, 64, 65, 200, 5]
    expected = gumbel(7, 1, torch.tensor(positions), 1000)
    assert torch.equal(noise.rows(positions), expected)


def test_the_high_half_of_seed_and_position_counts():
    rows = [gumbel(seed, 0, torch.tensor([position]), 8) for seed, position in ((1, 1), (1 + 2**32, 1), (1, 1 + 2**32))]
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_the_noise_is_never_infinite():
    assert torch.isfinite(gumbel(0, 0, torch.arange(2_000), 1_000)).all()


def test_noise_of_chosen_tokens_is_the_noise_of_all():
    noise, tokens = KeyedNoise(2**63 + 5, 1, 1001), np.array([0, 3, 4, 500, 1000])
    rows = noise.rows_of([5, 2**40], tokens)
    assert torch.equal(rows[:, tokens], noise.rows([5, 2**40])[:, tokens])
    assert (rows != 0).sum() == 10


KEYS = torch.from_numpy(
    np.stack([noise_key(2**63 + 12, 7, 2**40 + 3), noise_key(1, 2**32 - 1, 5, STEP_MARK), noise_key(0, 0, 2**31)])
)


@pytest.mark.parametrize("vocabulary_size", [8, 1001, 20_000])
def test_the_host_makes_the_noise_of_any_device(vocabulary_size):
    assert torch.equal(gumbel_rows(KEYS, vocabulary_size), gumbel_in_torch(KEYS, vocabulary_size))


@pytest.mark.gpu
@pytest.mark.parametrize("vocabulary_size", [8, 1001, 152_064])
def test_cuda_gives_the_same_noise(vocabulary_size):
    """One wrong bit of the generator would give another number. Two good logarithms in float64 differ by a unit in its
    last place, which moves the float32 by one in its own at most, and an absolute 1e-15 next to 0."""
    expected = gumbel_rows(KEYS, vocabulary_size)
    for given in (gumbel_rows(KEYS.cuda(), vocabulary_size), gumbel_in_torch(KEYS.cuda(), vocabulary_size)):
        torch.testing.assert_close(given.cpu(), expected, rtol=2.0**-23, atol=1e-14)


@pytest.mark.gpu
def test_a_graph_captures_the_noise():
    pytest.importorskip("triton")
    keys = KEYS.cuda()
    gumbel_rows(keys, 1001)  # compiles the kernel
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gumbel_rows(keys, 1001)
    keys.copy_(KEYS.flip(0))
    graph.replay()
    torch.testing.assert_close(captured.cpu(), gumbel_rows(KEYS.flip(0), 1001), rtol=2.0**-23, atol=1e-14)


def test_a_greedy_text_in_a_mixed_batch_has_no_noise():
    sampler = TokenSampler([Sampling(0.0), Sampling(1.0)], 8, torch.device("cpu"))
    noise = sampler.noise(torch.tensor([[3], [3]]))
    assert noise is not None
    assert (noise[0] == 0).all()
    assert (noise[1] != 0).all()


def step(root_position, seed=3, choice=0):
    return StepNoise(seed, choice, root_position, torch.device("cpu"))


def test_philox_gives_single_words_as_integers():
    counter, key = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    assert philox(counter, key) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_coins_are_uniform_over_steps_and_over_numbers():
    assert kstest([step(position).uniform(5) for position in range(5_000)], "uniform").pvalue > LEAST_P_VALUE
    assert kstest([step(9).uniform(number) for number in range(NUM_DRAWS)], "uniform").pvalue > LEAST_P_VALUE


def test_a_coin_is_strictly_between_zero_and_one():
    coins = [step(position).uniform(0) for position in range(5_000)]
    assert 0 < min(coins) < 0.001
    assert 0.999 < max(coins) < 1


def test_a_steps_gumbel_noise_is_standard():
    sample = step_gumbel([step(position) for position in range(100)], [1024] * 100, 500).flatten().numpy()
    assert kstest(sample, "gumbel_r").pvalue > LEAST_P_VALUE


def drawn(steps, number):
    return (LOGITS + step_gumbel(steps, [number] * len(steps), len(LOGITS))).argmax(-1).numpy()


def test_draws_of_a_step_are_independent_of_each_other_of_the_next_step_and_of_the_text():
    steps = [step(position) for position in range(4_000)]
    first = drawn(steps, 7)
    others = [
        drawn(steps, 8),
        drawn([step(position + 1) for position in range(4_000)], 7),
        draw([3], range(4_000))[0],
        draw([3], range(1, 4_001))[0],
        np.array([int(8 * noise.uniform(6)) for noise in steps]),
    ]
    for other in others:
        assert independent(first, other)


def test_every_part_of_a_steps_key_counts():
    keys = ((1, 1, 0, 0), (1, 1, 0, 1), (1, 1, 1, 0), (1, 1 + 2**32, 0, 0), (1 + 2**32, 1, 0, 0))
    noises = step_gumbel([step(*key) for *key, _ in keys], [number for *_, number in keys], 8)
    assert len({tuple(noise) for noise in noises.tolist()}) == len(keys)
    assert torch.equal(step_gumbel([step(1)], [3], 5), step_gumbel([step(1)], [3], 8)[:, :5])


def test_a_step_may_run_out_of_numbers_but_never_reuse_one():
    with pytest.raises(AssertionError, match="run out"):
        step(1).uniform(NUM_DRAWS)
