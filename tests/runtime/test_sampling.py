"""Warping happens once and means what transformers' own warpers mean."""

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from treewright.runtime.sampling import Sampling, TokenSampler

CPU = torch.device("cpu")
NO_IDS = torch.LongTensor()  # of the text before, which these warpers take and do not read


def logits(rows=5, size=50):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.5, 0, 1.0), (1.0, 7, 1.0), (0.8, 0, 0.7), (1.3, 9, 0.6)]
)
def test_warping_equals_transformers(temperature, top_k, top_p):
    sampler = TokenSampler([Sampling(temperature, top_k, top_p)] * 5, 50, CPU)
    expected = TemperatureLogitsWarper(temperature)(NO_IDS, logits())
    if top_k:
        expected = TopKLogitsWarper(top_k)(NO_IDS, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(NO_IDS, expected)
    warped = sampler.warp(logits())
    assert torch.equal(warped.isinf(), expected.isinf())
    torch.testing.assert_close(warped, expected, rtol=1e-12, atol=0)


def test_a_mass_of_thousands_of_tokens_is_found():
    flat = logits(rows=2, size=5000) * torch.tensor([[0.2], [1.0]])
    warped = TokenSampler([Sampling(top_p=0.9)] * 2, 5000, CPU).warp(flat)
    assert torch.equal(warped.isinf(), TopPLogitsWarper(0.9)(NO_IDS, flat).isinf())
    assert warped[0].isfinite().sum() > 3000 > 1024 > warped[1].isfinite().sum()


@pytest.mark.parametrize("sampling", [Sampling(top_k=2), Sampling(top_p=0.5)])
def test_tokens_tied_with_the_last_one_kept_are_kept(sampling):
    rows = torch.tensor([[1.0, 2.0, 0.0, 1.0, 1.0]]).double()
    assert TokenSampler([sampling], 5, CPU).warp(rows).isfinite().tolist() == [[True, True, False, True, True]]


def test_each_text_of_a_batch_is_warped_by_its_own_settings():
    samplings = [Sampling(0.0), Sampling(0.5), Sampling(1.0, top_k=3), Sampling(0.7, top_p=0.5), Sampling(1.0)]
    together = TokenSampler(samplings, 50, CPU).warp(logits())
    for row, sampling in enumerate(samplings):
        alone = TokenSampler([sampling], 50, CPU).warp(logits()[row : row + 1])
        assert torch.equal(together[row], alone[0])


def test_warping_leaves_the_models_logits_alone():
    given = logits()
    TokenSampler([Sampling(1.0), Sampling(1.0, top_k=2), *[Sampling(0.0)] * 3], 50, CPU).warp(given)
    assert torch.equal(given, logits())


def test_greedy_draws_the_largest_logit():
    drawn = TokenSampler([Sampling(0.0)] * 5, 50, CPU).draw(logits(), np.arange(5))
    assert drawn.tolist() == logits().argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-46, 1e-40, 1e-13])
def test_next_to_no_temperature_is_none(temperature):
    """Logits divided by it would leave the number format."""
    sampling = Sampling(temperature, top_k=2, top_p=0.5)
    assert sampling.is_greedy and sampling.temperature == temperature
    sampler, rows = TokenSampler([sampling] * 5, 50, CPU), logits().float()
    assert sampler.temperatures.tolist() == [0.0] * 5
    assert sampler.noise(torch.zeros((5, 1), dtype=torch.int64)) is None
    assert torch.equal(sampler.warp(rows), rows)
    assert sampler.draw(rows, np.arange(5)).tolist() == rows.argmax(-1).tolist()
    one_hot = torch.nn.functional.one_hot(rows.argmax(-1), 50).float()
    assert torch.equal(sampler.log_probs(rows).exp(), one_hot)
    assert torch.equal(torch.stack([sampler.probs(row, 0) for row in rows]), one_hot)


def test_the_least_temperature_leaves_numbers():
    sampler = TokenSampler([Sampling(1e-12)] * 5, 50, CPU)
    rows = 1e4 * logits().float()
    assert not Sampling(1e-12).is_greedy
    assert sampler.log_probs(rows).isfinite().all()
    assert sampler.draw(rows, np.arange(5)).tolist() == rows.argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [1e-50, 1e-46, 5e-324])
def test_next_to_no_mass_is_the_best_token(top_p):
    sampler, rows = TokenSampler([Sampling(top_p=top_p)] * 5, 50, CPU), logits().float()
    warped = sampler.warp(rows)
    assert warped.isfinite().sum(-1).tolist() == [1] * 5
    assert warped.argmax(-1).tolist() == rows.argmax(-1).tolist()


def test_padded_embedding_rows_are_never_drawn():
    wide = logits()
    wide[:, 40:] = 99.0
    for temperature in (0.0, 1.0):
        drawn = TokenSampler([Sampling(temperature)] * 5, 40, CPU).draw(wide, np.arange(5))
        assert (drawn < 40).all()


@pytest.mark.parametrize(
    "field",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"seed": -1}],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Sampling(**field)


def test_sampling_after_all_nodes_at_once_gives_the_same_tokens():
    samplings = [Sampling(0.0, seed=1), Sampling(0.8, top_k=9, seed=2), Sampling(1.2, top_p=0.9, seed=3)]
    sampler = TokenSampler(samplings, 50, CPU)
    rows, roots, depths = (
        logits(rows=12).view(3, 4, 50),
        np.array([5, 90, 31]),
        np.array([0, 1, 1, 2] * 3).reshape(3, 4),
    )
    drawn = sampler.draw_all(rows, roots, depths).tokens
    for node in range(4):
        assert drawn[:, node].tolist() == sampler.draw(rows[:, node], roots + depths[:, node] + 1).tolist()


@pytest.mark.parametrize("logit", [12.5, 100.0])
@pytest.mark.parametrize("temperature", [1e-4, 1e-6, 1e-9])
def test_tied_tokens_are_sampled_equally_often_however_small_the_temperature(logit, temperature):
    row = torch.tensor([[logit, logit, 0.0]])
    samplings = [Sampling(temperature, seed=seed) for seed in range(1000)]
    sampler = TokenSampler(samplings, 3, torch.device("cpu"))
    drawn = sampler.draw(row.expand(1000, 3), np.zeros(1000, dtype=np.int64))
    at_one = TokenSampler([Sampling(1.0, seed=seed) for seed in range(1000)], 2, torch.device("cpu"))
    noise = at_one.noise(torch.zeros((1000, 1), dtype=torch.int64))
    assert noise is not None
    assert drawn.tolist() == noise[:, 0].argmax(-1).tolist()


def test_a_sampler_of_one_request_gives_the_tokens_of_a_batch():
    samplings = [Sampling(0.0), Sampling(0.7, top_p=0.9, seed=3), Sampling(1.2, top_k=5, seed=4, choice=1)]
    rows, positions = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), np.array([4, 70, 9])
    batch = TokenSampler(samplings, 40, torch.device("cpu")).draw(rows, positions)
    for slot, sampling in enumerate(samplings):
        alone = TokenSampler([sampling], 40, torch.device("cpu"))
        assert alone.draw(rows[slot : slot + 1], positions[slot : slot + 1]).tolist() == [batch[slot]]


@pytest.mark.parametrize("cut", [{"top_k": 5}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.5}], ids=str)
def test_noise_for_the_survivors_of_a_cut_draws_the_tokens_of_noise_for_all(cut):
    rows = 3 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(1))
    rows[:, 7:19] += 12.0
    sampler, positions = (
        TokenSampler([Sampling(seed=3, **cut), Sampling(seed=4)], 40_000, CPU),
        torch.tensor([[5], [9]]),
    )
    scores = sampler.warp(rows)
    for_all, for_scores = sampler.noise(positions), sampler.noise(positions, scores)
    assert for_all is not None and for_scores is not None
    assert torch.equal(scores + for_scores[:, 0], scores + for_all[:, 0])
    assert (for_scores[0] != 0).sum() == scores[0].isfinite().sum() < 2000
