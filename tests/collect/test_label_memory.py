"""Which memory of the drafter's errors labels are drawn with."""

from dataclasses import asdict, replace

import checkpoints
import pytest
import tiny
from treewright.collect.labels.recorder import RunConfig
from treewright.collect.labels.shapes import ShapeConfig
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.runtime.speculation import MemoryOptions

PAIR = tiny.pair()
CARRIED = MemoryConfig(window=16, beta=1.0)


def selector(folder, memory):
    """A selector of the pair that carries a memory, or none."""
    checkpoints.write(folder)
    changes = {"tokenizer_sha256": PAIR.tokenizer_sha256, "memory": memory and asdict(memory)}
    checkpoints.reseal(folder, lambda config: config.update(changes))
    return folder


def test_it_is_the_one_that_is_given_or_that_a_selector_carries(tmp_path):
    carrying = selector(tmp_path / "selector", CARRIED)
    assert RunConfig().memory_of(PAIR) is None
    assert RunConfig(memory=MemoryOptions(window=16, beta=1.0)).memory_of(PAIR) == CARRIED
    assert RunConfig(selector=carrying).memory_of(PAIR) == CARRIED
    assert RunConfig(selector=carrying, memory=MemoryOptions(eta=2.0)).memory_of(PAIR) == replace(CARRIED, eta=2.0)


@pytest.mark.parametrize(
    ("carried", "options", "complaint"),
    [
        (None, {"memory": MemoryOptions(eta=2.0)}, "^memory.eta does nothing without memory.window, for no selector"),
        (MemoryConfig(window=0), {}, "does nothing, for memory.window is 0; leave it out"),
        (CARRIED, {"memory": MemoryOptions(window=0)}, "does nothing, for memory.window is 0; leave it out"),
        (CARRIED, {"shapes": ShapeConfig(labels=True)}, "^shapes.labels are of a drafter without a memory"),
    ],
    ids=str,
)
def test_options_that_would_do_nothing_are_refused(tmp_path, carried, options, complaint):
    given = {} if carried is None else {"selector": selector(tmp_path / "selector", carried)}
    with pytest.raises(InputError, match=complaint):
        RunConfig(**given, **options).memory_of(PAIR)


def test_a_selector_without_a_memory_and_a_drafter_without_states_are_refused(tmp_path):
    forgetful = selector(tmp_path / "selector", None)
    with pytest.raises(InputError, match="does nothing, for it carries no memory of errors; leave it out"):
        RunConfig(selector=forgetful, memory=MemoryOptions(window=8)).memory_of(PAIR)
    stateless = tiny.pair()
    tiny.transformers_model(stateless.drafter, "a test").last_layer = None
    with pytest.raises(InputError, match="gives no hidden states of the drafter"):
        RunConfig(memory=MemoryOptions(window=8)).memory_of(stateless)
