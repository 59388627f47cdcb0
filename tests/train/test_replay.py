"""Replay is exact: on recorded text a policy does what it did live, and no shape beats the oracle."""

import numpy as np
import plans
import pytest
import tiny
import traces
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.collect.trace import TraceFolder
from treewright.controller.memory import MemoryConfig
from treewright.controller.plans.setting import Setting
from treewright.controller.plans.tuned import TunedSettings
from treewright.runtime.schemes.ranked import get_ranked_scheme
from treewright.train.fit.fitted import with_baselines
from treewright.train.replay.oracle import oracle_ms
from treewright.train.replay.recording import read_recordings
from treewright.train.replay.replay import ReplayStats, replay
from treewright.train.replay.tuning import LEAST_TEXTS, compare_tuned, gain, tune

# As bushy as the grown trees can be, so that no policy asks for what was not recorded.
EVERYTHING = EnvelopeConfig(texts=4, max_depth=4, frontier=100)
COUNT, TEMPERATURE, MAX_TOKENS = 4, 0.8, 24
# Shorter than the texts: it fills and forgets.
MEMORY = MemoryConfig(window=16, entries=6, beta=6.0, mass=0.2)
WEAK = 0.08  # noise of a drafter whose errors are worth remembering


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "traces"
    return traces.write(path, COUNT, TEMPERATURE, MAX_TOKENS, envelopes=EVERYTHING)


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "traces"
    return traces.write(path, 2, TEMPERATURE, MAX_TOKENS, envelopes=EVERYTHING, memory=MEMORY, noise=WEAK)


def live(plan, count=COUNT, memory=None, noise=0.02):
    """Per text and step: widths of the drafted levels, tokens of the kept nodes, accepted length."""
    policy = plan.build()
    steps = []
    for request in tiny.requests(count, TEMPERATURE, MAX_TOKENS):
        drafter, scheme = tiny.llama(noise=noise), get_ranked_scheme(plan.scheme)
        decoder = tiny.decoder(tiny.llama(), drafter, policy, scheme, memory=memory)
        for record in decoder.steps([request], decoder.open_streams([request])):
            steps.append((record.level_widths, record.kept.tokens[0].tolist(), int(record.verdict.accepted_lengths[0])))
    return steps


def replayed(plan, recordings):
    steps = []

    def add(step):
        steps.append((step.widths, step.drafted.subtree(step.kept).tokens[0].tolist(), step.num_accepted))

    replay(recordings, plan.build(), plans.TABLE, add)
    return steps


FAMILIES = ("EAGLE-2", "OPT-Tree", "choice, confidence", "learned", "C2T", "EMA length")


@pytest.mark.parametrize("key", [key for key in plans.grids() if key[0] in FAMILIES], ids=str)
def test_a_policy_takes_the_same_steps_as_live(folder, key):
    recordings = read_recordings(folder)[key[1]]
    for plan in plans.grids(TEMPERATURE)[key][:2]:
        assert replayed(plan, recordings) == live(plan)


@pytest.mark.parametrize("key", [key for key in plans.grids() if key[0] in ("EAGLE-2", "learned")], ids=str)
def test_a_policy_takes_the_same_steps_as_live_where_errors_are_remembered(remembering, key):
    recordings = read_recordings(remembering)[key[1]]
    plan = plans.grids(TEMPERATURE)[key][0]
    with_memory = replayed(plan, recordings)
    assert with_memory == live(plan, 2, MEMORY, WEAK)
    assert with_memory != live(plan, 2, None, WEAK)


def test_the_oracle_is_no_slower_than_any_policy_and_tuning_keeps_the_fastest(folder):
    recordings = {scheme: texts[:1] for scheme, texts in read_recordings(folder).items()}
    tuned = tune(plans.selector(), plans.TABLE, recordings, least_texts=1)
    rows = compare_tuned(with_baselines(plans.selector(), tuned=tuned), plans.TABLE, recordings)
    for scheme, texts in recordings.items():
        fastest = sum(oracle_ms(text, plans.TABLE) for text in texts)
        for (family, of_scheme), grid in plans.grids(TEMPERATURE).items():
            if of_scheme != scheme:
                continue
            priced = [ReplayStats.merged(replay(texts, plan.build(), plans.TABLE)).priced_ms for plan in grid]
            assert min(priced) >= fastest - 1e-9
            assert tuned.at(Setting(scheme, TEMPERATURE), family)[0] == grid[int(np.argmin(priced))].settings
    assert {row.policy for row in rows} == {key[0] for key in plans.grids()} | {"oracle"}


def test_settings_are_not_ranked_by_a_few_texts_and_a_warning_says_so(folder, caplog):
    recordings = {"coupled": read_recordings(folder)["coupled"][:1] * (LEAST_TEXTS - 1)}
    tuned = tune(plans.selector(), plans.TABLE, recordings)
    for (family, scheme), grid in plans.grids(TEMPERATURE).items():
        if scheme == "coupled":
            assert tuned.at(Setting(scheme, TEMPERATURE), family) == [plan.settings for plan in grid]
    assert "7 texts of at least 8, so every policy keeps the first of its settings" in caplog.text


def test_texts_of_a_temperature_that_nothing_was_tuned_for_are_left_out_with_a_warning(folder, caplog):
    recordings = {"coupled": read_recordings(folder)["coupled"][:1]}
    other = TunedSettings({Setting("coupled", 0.3): {"learned": [{"theta_scale": 1.0}]}})
    assert compare_tuned(with_baselines(plans.selector(), tuned=other), plans.TABLE, recordings) == []
    assert "so no policy was tuned for it" in caplog.text


def test_a_replay_emits_every_recorded_token_once(folder):
    recordings = read_recordings(folder)["coupled"]
    for plan in plans.grids(TEMPERATURE)["learned", "coupled"][:1]:
        runs = replay(recordings, plan.build(), plans.TABLE)
        assert [run.num_tokens for run in runs] == [len(text.tokens) - text.prompt_length for text in recordings]
        assert not sum(run.num_outside for run in runs)


def test_gain_is_the_ratio_of_the_summed_times():
    slow, fast = [ReplayStats(priced_ms=6.0), ReplayStats(priced_ms=2.0)], [ReplayStats(priced_ms=4.0)] * 2
    middle, low, high = gain(fast, slow)
    assert middle == 1.0
    assert low == 0.5
    assert high == 1.5


def test_a_folder_without_envelopes_has_no_recordings(tmp_path):
    folder = TraceFolder.open(traces.write(tmp_path / "bare", count=1).path)
    assert read_recordings(folder) == {"coupled": [], "fixed": []}
