"""bench inside transformers' generate: which loops run, and what is said of texts that differ."""

import checkpoints
import plans
import pytest
import tiny
from treewright.collect.measure.bench.guests import ASSISTED, LEARNED, NATIVE, PLAIN, inside_generate, near_ties
from treewright.collect.measure.bench.policies import Job, Run
from treewright.collect.measure.bench.settings import BenchConfig
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.adapters.generate.drafting import latency_key
from treewright.runtime.sampling import Sampling


def jobs(temperature):
    return [Job([seed, 2, 3], 8, Sampling(temperature, seed=seed), "code") for seed in (4, 5)]


@pytest.mark.parametrize(("temperature", "equal"), [(0.0, NATIVE), (1.0, PLAIN)])
def test_every_loop_runs_and_guests_write_the_text_they_promise(temperature, equal, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pair, folder = tiny.pair(), checkpoints.write(tmp_path / "checkpoint")
    key = latency_key(tiny.network(pair.target), tiny.network(pair.drafter))
    cache_path(key).parent.mkdir(parents=True)
    type(plans.TABLE)(**{**vars(plans.TABLE), "key": key}).save(cache_path(key))
    report = inside_generate(pair, folder, [], jobs(temperature))
    assert [row["policy"] for row in report["policies"]] == [
        NATIVE,
        ASSISTED,
        PLAIN,
        "generate_with, default tree",
        "generate_with, learned",
        LEARNED,
        f"{ASSISTED}, learned chains",
    ]
    assert report["texts_equal_to"] == equal
    assert [*report["texts_unlike"].values()] == [[]] * 4
    assert f"{LEARNED} over {ASSISTED}" in capsys.readouterr().out


def test_texts_that_differ_are_told_by_how_far_their_tokens_are_apart():
    pair = tiny.pair()
    run, other = (Run(tokens, 1.0, None) for tokens in ([1, 2, 3, 4], [1, 2, 5, 6]))
    (tie,) = near_ties(pair, jobs(0.0)[:1], [run], [other])
    assert (tie.prompt, tie.token) == (0, 2)
    assert tie.gap > 0
    assert near_ties(pair, jobs(0.0)[:1], [run], [run]) == []


def test_it_has_a_round_of_its_own():
    with pytest.raises(InputError, match="leave concurrency and verifiers out"):
        BenchConfig(inside_generate=True, concurrency=(1,))
