"""The `make-pair` command: train a pair on the source of the Python standard library, or grow one to real costs."""

import hashlib
import json
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from time import perf_counter

import lightning
import torch

from ...controller.console import print_json
from ...controller.errors import InputError
from ...runtime.machine.threads import require_threads
from ...runtime.pair_config import PairConfig
from .corpus import Document, read_documents
from .held_out import cut_prompts
from .inflated_pair import save_inflated_pair
from .language_model import fit_model, save_model
from .middle import refuse_idle_sizes, train_middle
from .provenance import WINDOW, measure_pair, pair_card
from .settings import EPOCH_STEPS, CutConfig, PairFitConfig, PairShape
from .sizes import GROWN_SHAPES
from .tokenizer import encode_documents, train_tokenizer


def make_pair(
    out: Path,
    library: Path | None = None,
    shape: PairShape = PairShape(),
    fit: PairFitConfig = PairFitConfig(),
    prompts: CutConfig = CutConfig(),
    threads: int = 0,
    middle: str | None = None,
    inflate: str | None = None,
    pair: PairConfig = PairConfig(dtype="bfloat16"),
) -> None:
    """Train a pair on a Python standard library (tokenizer, target, distilled drafter with snapshots, prompts, card),
    or the middle of a stack for a pair, or train nothing, but inflate a pair to the costs of a real one.

    Args:
        out: Folder to write; a killed training is resumed from its last epoch
        library: Folder of the standard library to read; this Python's own where none is given
        shape: The two models
        fit: How long they are trained
        prompts: The prompts that come with the pair
        threads: CPU threads; 0 leaves torch's own choice
        middle: Train only one more model, of shape.middle, distilled from this target: a folder, or `reference`
        inflate: Grow a pair, without a change of its texts, to a target of 100m, 1b or 8b parameters; its drafter gets
            an eighth to a twelfth of them
        pair: The Llama-architecture pair to grow, and the number format to write it in
    """
    started = perf_counter()
    if inflate is not None:
        idle = {"library": library, "shape": shape, "fit": fit, "prompts": prompts, "threads": threads}
        _refuse_idle("with --inflate", idle | {"middle": middle})
        if not pair.graphs or pair.cache_tokens:
            raise InputError("with --inflate nothing is decoded, so pair.graphs and pair.cache_tokens do nothing there")
        if inflate not in GROWN_SHAPES:
            raise InputError(f"inflate is one of {', '.join(GROWN_SHAPES)}, got {inflate!r}; choose one of them")
        made = save_inflated_pair(out, pair, GROWN_SHAPES[inflate])
        seconds = round(perf_counter() - started, 1)
        print_json({"command": "make-pair", "out": str(out), **asdict(made), "seconds": seconds})
        return
    _refuse_idle("without --inflate", {"pair": pair})
    refuse_idle_sizes(middle, shape, fit, prompts)
    if threads:
        require_threads("threads", threads)
        torch.set_num_threads(threads)
    library = library or Path(sysconfig.get_paths()["stdlib"])
    documents = read_documents(library)
    read = [document for document in documents if not document.held_out]
    held_out = [document for document in documents if document.held_out]
    if not read or not held_out:
        raise InputError(
            f"{library} is too small to be split into a training part and a held-out part; give a larger one"
        )
    scratch = out / "scratch"
    _begin(scratch, shape, fit, documents, middle)
    lightning.seed_everything(fit.seed, verbose=False)
    if middle is not None:
        made = train_middle(out, scratch, middle, shape.middle, fit, documents)
        provenance = {"distilled_from": middle, "fit": asdict(fit), **made}
        provenance["minutes"] = round((perf_counter() - started) / 60, 1)
        (out / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
        shutil.rmtree(scratch)
        print_json({"command": "make-pair", "out": str(out), **provenance})
        return
    tokenizer = train_tokenizer(read, shape.vocabulary_size)
    tokens, held_out_tokens = encode_documents(tokenizer, read), encode_documents(tokenizer, held_out)
    if len(tokens) <= fit.window or len(held_out_tokens) <= WINDOW:
        raise InputError(
            f"{library} has {len(tokens)} tokens to train on and {len(held_out_tokens)} held out, but windows of "
            f"{fit.window} and {WINDOW} are cut from them; give a larger library"
        )
    rows = cut_prompts(tokenizer, documents, prompts, fit.seed)
    target, drafter = shape.target.build(shape.vocabulary_size), shape.drafter.build(shape.vocabulary_size)
    fit_model(target, tokens, fit.target_steps, fit, scratch / "target")
    epochs = fit.drafter_steps // EPOCH_STEPS
    snapshots = {out / "drafter-early": max(1, epochs // 10), out / "drafter-mid": max(1, epochs // 3)}
    fit_model(drafter, tokens, fit.drafter_steps, fit, scratch / "drafter", teacher=target, snapshots=snapshots)
    save_model(target, out / "target")
    save_model(drafter, out / "drafter")
    for folder in ("target", "drafter", "drafter-early", "drafter-mid"):
        tokenizer.save_pretrained(out / folder)
    (out / "prompts.jsonl").write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    minutes = round((perf_counter() - started) / 60, 1)
    measured = measure_pair(target, drafter, tokenizer, held_out_tokens, rows)
    lengths = {"training_tokens": len(tokens), "held_out_tokens": len(held_out_tokens)}
    provenance = {**lengths, "shape": asdict(shape), "fit": asdict(fit), "minutes": minutes, **asdict(measured)}
    (out / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    (out / "README.md").write_text(pair_card(shape, fit, measured, len(tokens)))
    shutil.rmtree(scratch)
    print_json({"command": "make-pair", "out": str(out), **provenance})


def _refuse_idle(when: str, options: Mapping[str, object]) -> None:
    """InputError that names every option given that does nothing there."""
    parameters = signature(make_pair).parameters
    if idle := [name for name, value in options.items() if value != parameters[name].default]:
        raise InputError(f"{when} the following does nothing: {', '.join(idle)}; leave all options of it out")


def _begin(scratch: Path, shape: PairShape, fit: PairFitConfig, documents: list[Document], middle: str | None) -> None:
    """Make the folder that a killed run is resumed from; InputError where its run had other settings or texts."""
    texts = hashlib.sha256(json.dumps([asdict(document) for document in documents]).encode()).hexdigest()
    settings = {"shape": asdict(shape), "fit": {**asdict(fit), "compile": None}, "middle": middle}
    identity = json.dumps(settings | {"texts_sha256": texts})
    file = scratch / "identity.json"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        if any(scratch.glob("*/last.ckpt")) and not (file.exists() and file.read_text() == identity):
            raise InputError(
                f"{scratch} holds an unfinished pair of other settings or another library; give those, or remove it"
            )
        file.write_text(identity)
    except OSError as error:
        raise InputError(f"{scratch} cannot be written ({error.strerror}); give a folder that can be") from error
