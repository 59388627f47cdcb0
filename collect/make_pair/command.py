"""The `make-pair` command: train a target and a drafter worth decoding, from nothing but the standard library."""

import json
import shutil
import sysconfig
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch

from ...controller.console import print_json
from ...controller.errors import InputError
from .corpus import read_documents
from .held_out import cut_prompts
from .language_model import EPOCH_STEPS, ModelSize, PairFitConfig, fit_model, save_model
from .provenance import measure_pair, pair_card
from .tokenizer import encode_documents, train_tokenizer


@dataclass(frozen=True)
class PairShape:
    """The two models; deep and narrow, so that a target step costs many drafter levels even at batch 1."""

    target: ModelSize = field(default_factory=lambda: ModelSize(38, 144, 352, 2, 1))
    """The target"""
    drafter: ModelSize = field(default_factory=lambda: ModelSize(2, 128, 352, 2, 1))
    """The drafter"""
    vocabulary_size: int = 4096
    """Tokens of the byte-level BPE"""


@dataclass(frozen=True)
class CutConfig:
    """Which prompts are cut from the library."""

    tune: int = 300
    """Prompts per domain to collect, train and tune on"""
    bench: int = 24
    """Prompts per domain to measure on, from held-out modules"""
    num_tokens: int = 100
    """Tokens per prompt"""


def make_pair(
    out: Path,
    library: Path | None = None,
    shape: PairShape = PairShape(),
    fit: PairFitConfig = PairFitConfig(),
    prompts: CutConfig = CutConfig(),
    threads: int = 0,
) -> None:
    """Train a pair on a Python standard library: tokenizer, target, distilled drafter with snapshots, prompts, card.

    Args:
        out: Folder to write; a killed run goes on from its last epoch
        library: Folder of the standard library to read; this Python's own where none is given
        shape: The two models
        fit: How long they are trained
        prompts: The prompts that come with the pair
        threads: CPU threads; 0 leaves torch's own choice
    """
    for name in ("target_steps", "drafter_steps"):
        if getattr(fit, name) < EPOCH_STEPS or getattr(fit, name) % EPOCH_STEPS:
            raise InputError(f"fit.{name} is a multiple of {EPOCH_STEPS}, got {getattr(fit, name)}")
    if threads:
        torch.set_num_threads(threads)
    started = perf_counter()
    documents = read_documents(library or Path(sysconfig.get_paths()["stdlib"]))
    read = [document for document in documents if not document.held_out]
    held_out = [document for document in documents if document.held_out]
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / "scratch"
    tokenizer = train_tokenizer(read, shape.vocabulary_size)
    tokens, held_out_tokens = encode_documents(tokenizer, read), encode_documents(tokenizer, held_out)
    lightning.seed_everything(fit.seed, verbose=False)
    target, drafter = shape.target.build(shape.vocabulary_size), shape.drafter.build(shape.vocabulary_size)
    fit_model(target, tokens, fit.target_steps, fit, scratch / "target")
    epochs = fit.drafter_steps // EPOCH_STEPS
    snapshots = {max(1, epochs // 10): out / "drafter-early", max(1, epochs // 3): out / "drafter-mid"}
    fit_model(drafter, tokens, fit.drafter_steps, fit, scratch / "drafter", teacher=target, snapshots=snapshots)
    save_model(target, out / "target")
    save_model(drafter, out / "drafter")
    for folder in ("target", "drafter", "drafter-early", "drafter-mid"):
        tokenizer.save_pretrained(out / folder)
    rows = cut_prompts(
        tokenizer,
        documents,
        prompts_per_domain={"bench": prompts.bench, "tune": prompts.tune},
        num_tokens=prompts.num_tokens,
        seed=fit.seed,
    )
    (out / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts: dict[str, Any] = {
        "training_tokens": len(tokens),
        "held_out_tokens": len(held_out_tokens),
        "shape": asdict(shape),
        "fit": asdict(fit),
        "minutes": round((perf_counter() - started) / 60, 1),
        **measure_pair(target, drafter, tokenizer, held_out_tokens, rows),
    }
    (out / "provenance.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "README.md").write_text(pair_card(facts))
    shutil.rmtree(scratch)
    print_json({"command": "make-pair", "out": str(out), **facts})
