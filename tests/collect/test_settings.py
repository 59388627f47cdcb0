"""Every setting of collect, profile, bench, make-pair, check and serve is refused by name beyond its edges."""

from math import inf, nan

import pytest
from treewright.collect.fit_memory import MemoryFitConfig
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.collect.labels.shapes import ShapeConfig
from treewright.collect.make_pair.settings import CutConfig, ModelSize, PairFitConfig, PairShape
from treewright.collect.measure.bench.settings import BenchConfig
from treewright.collect.measure.profile import ProfileConfig
from treewright.collect.record import TextConfig
from treewright.controller.errors import InputError
from treewright.controller.trees.limits import LARGEST
from treewright.runtime.constraints.settings import MOST_BIASES, MOST_WORDS, Constraints
from treewright.runtime.exactness.command import ToyConfig
from treewright.runtime.serve.config import ServerConfig

EDGES = {  # class: field, what it takes, what it refuses
    TextConfig: {
        "temperatures": ([(0.0,), (100.0,), (1.0, 1.0)], [(), (-0.1,), (100.1,), (nan,), (1.0, inf)]),
        "top_p": ([1.0, 0.01], [0.0, -1.0, 1.1, nan]),
        "max_tokens": ([1], [0, -1]),
        "seed": ([0, 2**64 - 1], [-1, 2**64]),
    },
    ProfileConfig: {
        "batches": ([(1,), (2, 5)], [(), (0,), (-1, 1), (1, 1), (2, 1)]),
        "contexts": ([(1,), (2, 5)], [(), (0,), (-1, 1), (1, 1), (2, 1)]),
        "widths": ([(1,), (2, 5)], [(), (0,), (-1, 1), (1, 1), (2, 1)]),
        "nodes": ([(), (0,), (0, 5)], [(1, 2), (-1, 0), (0, 0), (0, 2, 1)]),
        "repeats": ([1], [0, -1]),
    },
    EnvelopeConfig: {
        "texts": ([0, 1], [-1]),
        "max_depth": ([1], [0]),
        "frontier": ([1], [0]),
        "schemes": ([("fixed",), ("coupled", "fixed")], [(), ("iid-paths",), ("coupled", "x"), ("fixed", "fixed")]),
    },
    ShapeConfig: {"every": ([1], [0]), "trees": ([0, 1], [-1])},
    BenchConfig: {
        "temperatures": ([(0.0,), (0.6, 1.0)], [(), (-1.0,), (nan,), (1.0, 1.0), (1.0, 1.00000001)]),
        "max_tokens": ([1], [0]),
        "tune_prompts": ([0], [-1]),
        "assisted_prompts": ([0], [-1]),
        "tune_tokens": ([1], [0]),
        "bench_prompts": ([2], [1]),
        "concurrency": ([(), (1,), (4, 2)], [(0,), (2, 2)]),
        "concurrency_rounds": ([5], [0, 3]),  # three rounds of nothing
        "ahead": ([(), (1, LARGEST.max_depth)], [(0,), (LARGEST.max_depth + 1,)]),
        "top_p": ([1e-6, 1.0], [0.0, 1.1, nan]),
        "seed": ([0], [-1, 2**64]),
    },
    PairFitConfig: {
        "target_steps": ([50, 100], [0, 49, 75, -50]),
        "drafter_steps": ([50, 100], [0, 49, 75, -50]),
        "batch_size": ([1], [0]),
        "window": ([1, 2048], [0, 2049]),
        "learning_rate": ([1e-9], [0.0, -1.0, nan, inf]),
        "seed": ([0, 2**32 - 1], [-1, 2**32]),
    },
    PairShape: {
        "vocabulary_size": ([257], [256, 0]),
        "target": ([ModelSize(1, 1, 1, 4, 2)], [ModelSize(*sizes) for sizes in ((0, 1, 1, 1, 1), (1, 1, 1, 3, 2))]),
        "drafter": ([ModelSize(1, 1, 1, 1, 1)], [ModelSize(*sizes) for sizes in ((1, 0, 1, 1, 1), (1, 1, 1, 1, 0))]),
        "middle": ([ModelSize(1, 1, 1, 1, 1)], [ModelSize(*sizes) for sizes in ((1, 1, 0, 1, 1), (1, 1, 1, 0, 1))]),
    },
    CutConfig: {"tune": ([1], [0]), "bench": ([1], [0]), "num_tokens": ([1], [0])},
    Constraints: {
        "logit_bias": (
            [{}, {0: -100.0, 9: 100.0}],
            [{0: 100.1}, {0: nan}, {-1: 1.0}, dict.fromkeys(range(MOST_BIASES + 1), 1.0)],
        ),
        "repetition_penalty": ([1e-6, 100.0], [0.0, -1.0, 100.1, nan, inf]),
        "frequency_penalty": ([-2.0, 2.0], [-2.1, 2.1, nan]),
        "presence_penalty": ([-2.0, 2.0], [-2.1, 2.1, nan]),
        "allowed_token_ids": ([(), (0, 7)], [(-1,), (True,)]),
        "bad_words": ([(), ("a",)], [("",), ("a",) * (MOST_WORDS + 1)]),
        "min_tokens": ([0], [-1]),
        "stop_token_ids": ([(), (3,)], [(-1,)]),
        "min_p": ([0.0, 1.0], [-0.1, 1.1, nan]),
        "choices": ([(), ("a", "b")], [("a", "")]),
    },
    MemoryFitConfig: {"texts": ([3], [2, 0])},
    ServerConfig: {
        "max_queue": ([1], [0, -1]),
        "max_wait": ([0.1], [0.0, -1.0, nan, inf]),
        "grace": ([0.0], [-1.0, nan, inf]),
        "read_timeout": ([0.1], [0.0, nan, inf]),
        "keep_alive": ([0], [-1]),
        "max_connections": ([1], [0]),
        "allowed_hosts": (
            [(), ("*",), ("localhost", "example.org", "10.0.0.1", "[::1]")],
            [("",), ("http://a",), ("a:80",), ("a/b",), ("::1",), ("ok", "a b")],
        ),
        "allowed_origins": (
            [(), ("*",), ("https://example.org", "http://[::1]:80")],
            [("",), ("a",), ("https://a/",), ("https://A",), ("https://a b",)],
        ),
    },
    ToyConfig: {
        "vocabulary_size": ([2], [1]),
        "width": ([1], [0]),
        "trunk": ([0], [-1]),
        "branch": ([0], [-1]),
        "models": ([1], [0]),
    },
}
FIELDS = [(kind, field) for kind, fields in EDGES.items() for field in fields]
UNBOUNDED = {  # yes or no
    BenchConfig: {"fixed_scheme", "inside_generate", "memory", "shapes", "verifiers"},
    PairFitConfig: {"compile"},
    ServerConfig: {"key_file", "speculation_metrics"},
    ShapeConfig: {"labels"},
    Constraints: {"json_schema", "regex", "grammar"},  # grammars, which are compiled
}


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_a_setting_at_its_edge_is_taken_and_one_beyond_is_refused_by_name(kind, field):
    taken, refused = EDGES[kind][field]
    for value in taken:
        assert getattr(kind(**{field: value}), field) == value
    for value in refused:
        with pytest.raises(InputError, match=rf"\b{field}\b"):
            kind(**{field: value})


@pytest.mark.parametrize("kind", EDGES)
def test_no_setting_is_left_out_here(kind):
    assert {*EDGES[kind]} | UNBOUNDED.get(kind, set()) == {*kind.__dataclass_fields__}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"verifiers": True, "tune_prompts": 0}, "tune_prompts is 0; use at least 1"),
        ({"verifiers": True, "concurrency": (2,)}, "verifiers has no part in measure.concurrency"),
        ({"memory": True, "concurrency": (2,)}, "measure.memory has a round of its own"),
        ({"ahead": (4,), "memory": True}, "measure.ahead has a round of its own"),
        ({"ahead": (4, 0)}, "measure.ahead is between 1 and 64, got 0"),
        ({"concurrency_rounds": 3}, "measure.concurrency, which is not given"),
    ],
    ids=str,
)
def test_settings_of_bench_that_would_do_nothing_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        BenchConfig(**settings)


def test_a_draft_without_levels_is_refused():
    with pytest.raises(InputError, match="both 0"):
        ToyConfig(trunk=0, branch=0)
