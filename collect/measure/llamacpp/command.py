"""Measures GGUF pairs, part by part, into one JSON file; an interrupted run goes on behind the last part in it."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ....controller.checkpoint import Checkpoint
from ....controller.console import print_json
from ....controller.errors import InputError
from ....controller.files import atomic_write
from ....controller.plans.setting import temperature_key
from ....controller.pricing.latency_cache import stored_table
from ....controller.ranges import require_at_least, require_some
from ....runtime.engines.llamacpp.config import LlamaCppConfig
from ....runtime.pair import Pair, load_pair
from ....runtime.pair_config import PairConfig
from ....runtime.sampling import Sampling
from ....runtime.selectors import read_selector
from ...prompts.prompt import prompt_ids
from ...prompts.sources import PromptConfig, load_prompts
from ..bench.policies import Job
from ..program import run_program
from .equality import compare_texts
from .noise import VOCABULARY, choice_times
from .speeds import speeds

PARTS = ("equality", "speeds", "noise")
PACKAGES = ("llama-cpp-python", "xllamacpp", "torch", "numpy")
EQUALITY_TEMPERATURES = (0.0, 1.0)


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured of each pair."""

    parts: tuple[str, ...] = PARTS
    """equality: texts of trees and of plain decoding; speeds: of all loops; noise: the choice at a large vocabulary"""
    temperatures: tuple[float, ...] = (0.0, 0.6)
    """Of the speeds"""
    prompts: int = 12
    """On which speeds are measured"""
    tune_prompts: int = 2
    """On which settings are tried before"""
    max_tokens: int = 48
    """Of a text"""
    equality_prompts: int = 64
    """On which texts are compared, at temperatures 0 and 1"""
    seed: int = 10_000
    """Of the first text"""

    def __post_init__(self) -> None:
        require_some("measure.parts", self.parts)
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise InputError(f"measure.parts are some of {', '.join(PARTS)}, got {unknown[0]!r}")
        require_at_least("measure.prompts", self.prompts, 2)  # one has no interval
        for name in ("tune_prompts", "max_tokens", "equality_prompts"):
            require_at_least(f"measure.{name}", getattr(self, name), 1)


def measure_llamacpp(
    out: Path,
    pairs: tuple[Path, ...],
    selectors: tuple[Path, ...] = (),
    engine: LlamaCppConfig = LlamaCppConfig(),
    threads: int = 0,
    measure: MeasureConfig = MeasureConfig(),
) -> None:
    """Compare texts and speeds of GGUF pairs under our loop with llama.cpp's own.

    Args:
        out: JSON file to write; parts that it holds already are not measured again
        pairs: Folders that `treewright export-gguf` wrote
        selectors: Of each pair, the checkpoint folder that was trained on its traces, for the speeds
        engine: How llama.cpp runs them
        threads: CPU threads; 0 takes the fastest by the stored latency tables
        measure: What is measured
    """
    if "speeds" in measure.parts and len(selectors) != len(pairs):
        raise InputError(f"speeds need a selector for each of the {len(pairs)} pairs, got {len(selectors)}")
    report = json.loads(out.read_bytes()) if out.exists() else {"command": "measure-llamacpp", "parts": {}}
    found: dict[str, Any] = report["parts"]
    for number, folder in enumerate(pairs):
        config = PairConfig(str(folder / "target.gguf"), str(folder / "drafter.gguf"), threads=threads, llamacpp=engine)
        pair: Pair | None = None
        for name, part in _parts(measure, selectors[number] if selectors else None):
            key = f"{folder.name}, {engine.cache_type} cache{', flash attention' * engine.flash_attention}: {name}"
            if key in found:
                continue
            pair = pair or load_pair(config)
            found[key] = _conditions(pair) | part(pair)
            atomic_write(out, json.dumps(report, indent=1).encode())
    if "noise" in measure.parts and "noise" not in found:
        torch.set_num_threads(threads or torch.get_num_threads())
        times = [asdict(row) for row in choice_times()]
        found["noise"] = {"vocabulary": VOCABULARY, "threads": torch.get_num_threads(), "times": times}
        atomic_write(out, json.dumps(report, indent=1).encode())
    print_json(report)


def _parts(measure: MeasureConfig, selector: Path | None) -> Iterator[tuple[str, Callable[[Pair], dict[str, Any]]]]:
    """What is measured of a pair, by name."""
    if "equality" in measure.parts:
        for temperature in EQUALITY_TEMPERATURES:
            title = f"texts at T = {temperature:g}"
            yield title, lambda pair, at=temperature, title=title: _equality(pair, measure, at, title)
    if "speeds" in measure.parts:
        for temperature in measure.temperatures:
            yield (
                f"speeds at T = {temperature_key(temperature)}",
                lambda pair, at=temperature: _speeds(pair, measure, selector, at),
            )


def _equality(pair: Pair, measure: MeasureConfig, temperature: float, title: str) -> dict[str, Any]:
    jobs = _jobs(pair, measure, "bench", measure.equality_prompts, temperature)
    equality = compare_texts(pair, jobs, f"{pair.name}: {title}")
    choices = [choice._asdict() for choice in equality.choices]
    return asdict(equality) | {"choices": choices, "widest_gap": equality.widest_gap}


def _speeds(pair: Pair, measure: MeasureConfig, selector: Path | None, temperature: float) -> dict[str, Any]:
    assert selector is not None
    checkpoint: Checkpoint = read_selector(selector, tokenizer_sha256=pair.tokenizer_sha256)
    table = stored_table(pair.latency_key)
    if table is None:
        raise InputError(f"there is no latency table of {pair.name!r} here yet; run `treewright profile` for it")
    tuning = _jobs(pair, measure, "tune", measure.tune_prompts, temperature)
    jobs = _jobs(pair, measure, "bench", measure.prompts, temperature)
    return speeds(pair, checkpoint, table, temperature, tuning, jobs)


def _jobs(pair: Pair, measure: MeasureConfig, split: str, count: int, temperature: float) -> list[Job]:
    return [
        Job(
            prompt_ids(prompt, pair.tokenizer),
            measure.max_tokens,
            Sampling(temperature, seed=measure.seed + number),
            prompt.domain,
        )
        for number, prompt in enumerate(load_prompts(PromptConfig("reference", split, count)))
    ]


def _conditions(pair: Pair) -> dict[str, Any]:
    return {
        "number_format": pair.number_format,
        "processor": pair.target.processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": date.today().isoformat(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    run_program(measure_llamacpp, "measure-llamacpp")
