"""A memory of the drafter's errors is chosen by what it would have corrected over recorded texts."""

import json
from dataclasses import replace

import checkpoints
import heads
import numpy as np
import pytest
import tiny
import traces
from treewright.collect import fit_memory as command
from treewright.collect.fit_memory import GRID, MemoryFitConfig, choose, fit_memory
from treewright.collect.labels.errors import SCORES, follows_new_gram, score_memories
from treewright.collect.trace import TraceFolder, TraceRows
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling

SURPRISE = SCORES.index("surprise")


def counting_text(first, length=60, temperature=0.0):
    """The target's text, which counts on by one, behind a prompt that does so once round."""
    prompt = [*range(tiny.VOCABULARY_SIZE), 0]
    request = Request(prompt, length, Sampling(temperature, seed=first))
    return traces.row_of(request, [token % tiny.VOCABULARY_SIZE for token in range(1, length + 1)], f"text {first}")


def counting_models():
    """The drafter counts on by two."""
    target, directions = heads.counting_target()
    drafter, _ = heads.counting_target()
    tiny.network(drafter).lm_head.weight.data = directions.roll(2, dims=0)
    return target, drafter


def test_the_scores_are_what_the_drafter_would_have_drafted():
    target, drafter = counting_models()
    like = MemoryConfig(window=tiny.VOCABULARY_SIZE, beta=30.0, mass=0.2)
    memories = [None, like, replace(like, window=1)]
    plain, remembering, forgetting = (
        dict(zip(SCORES, of, strict=True)) for of in score_memories(target, drafter, counting_text(1), memories, 1)
    )
    assert plain["tokens"] == remembering["tokens"] == 60
    assert plain["first"] == forgetting["first"] == 0
    assert remembering["first"] == 60
    assert remembering["surprise"] < plain["surprise"]
    assert plain["covered"] == 60  # the n-grams know it, for the text repeats its prompt
    assert plain["new_tokens"] == 3  # behind 39, where the prompt began anew
    assert (plain["new_first"], remembering["new_first"]) == (0, 3)


def test_a_gram_is_new_where_it_has_not_ended_before():
    assert follows_new_gram(np.array([1, 2, 3, 4, 1, 2, 3, 4, 5])).tolist() == [True] * 7 + [False, True]


def test_the_least_surprised_memory_wins_and_then_the_smallest_that_loses_little():
    best = GRID[7]

    def score(memories):
        rows = np.zeros((len(memories), len(SCORES)))
        for row, memory in zip(rows, memories, strict=True):
            gain = 0.0 if memory is None else 50.0 + 50.0 * (replace(memory, window=256, entries=16) == best)
            if memory is not None:
                gain -= 30.0 * (memory.window < 128) + 1.0 * (memory.entries < 32)
            row[SURPRISE] = 300.0 - gain
        return rows

    assert choose(score) == replace(best, window=128, entries=4)


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """A command over the counting models, a selector, and recorded texts."""
    models = replace(tiny.pair(), target=(pair := counting_models())[0], source=pair[1])
    monkeypatch.setattr(command, "load_pair", lambda config: models)
    header = traces.header(width=0, scheme="", tokenizer_sha256=models.tokenizer_sha256)
    with TraceFolder.create(tmp_path / "texts", header) as folder:
        folder.append(TraceRows([counting_text(number, 12, temperature=0.5) for number in range(6)], [], []))
    selector = checkpoints.write(tmp_path / "selector")
    checkpoints.reseal(selector, lambda config: config.update(tokenizer_sha256=models.tokenizer_sha256))
    return tmp_path


def test_the_checkpoint_carries_the_fitted_memory(fitted, capsys, monkeypatch):
    monkeypatch.setattr(command, "GRID", GRID[13:15])
    fit_memory(fitted / "texts", fitted / "selector", fitted / "out", fit=MemoryFitConfig(texts=6))
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    before, after = (Checkpoint.read(fitted / name) for name in ("selector", "out"))
    assert before.config.memory is None
    assert after.config == replace(before.config, memory=MemoryConfig(**report["memory"]))
    assert after.files == before.files
    off, on = report["rows"]
    assert on["surprise"] < off["surprise"]


def test_a_selector_of_another_pair_is_refused(fitted):
    with pytest.raises(InputError, match="was trained for the pair 'tiny', whose tokenizer differs"):
        fit_memory(fitted / "texts", checkpoints.write(fitted / "other"), fitted / "out")
