"""Trains the middle of a stack: a model between a target and its drafter, distilled from the target as that is."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ...controller.errors import InputError
from ...runtime.pair_config import resolved
from .corpus import Document
from .language_model import fit_model, save_model
from .provenance import WINDOW, compared
from .settings import CutConfig, ModelSize, PairFitConfig, PairShape
from .tokenizer import encode_documents


def train_middle(
    out: Path, scratch: Path, target_name: str, size: ModelSize, fit: PairFitConfig, documents: list[Document]
) -> dict[str, Any]:
    """Train a model of this size for `fit.drafter_steps` and write it, with the target's tokenizer, to `out`; what it
    does on the held-out documents. InputError for a target that is no Llama-architecture model in a folder."""
    target, tokenizer = _load(resolved(target_name, "target"))
    tokens, held_out_tokens = (
        encode_documents(tokenizer, [each for each in documents if each.held_out is held_out])
        for held_out in (False, True)
    )
    if len(tokens) <= fit.window or len(held_out_tokens) <= WINDOW:
        raise InputError(
            f"the library has {len(tokens)} tokens to train on and {len(held_out_tokens)} held out, but windows of "
            f"{fit.window} and {WINDOW} are cut from them; give a larger one"
        )
    middle = size.build(target.config.vocab_size)
    fit_model(middle, tokens, fit.drafter_steps, fit, scratch / "middle", teacher=target)
    save_model(middle, out)
    tokenizer.save_pretrained(out)
    _, loss, agreement, overlap = compared(target, middle, held_out_tokens)
    return {
        "training_tokens": len(tokens),
        "size": asdict(size),
        "loss": loss,
        "greedy_agreement": agreement,
        "overlap": overlap,
        "parameters": middle.num_parameters(),
    }


def refuse_idle_sizes(middle: str | None, shape: PairShape, fit: PairFitConfig, prompts: CutConfig) -> None:
    """InputError that names every option given that is of models which are not trained."""
    usual, steps = PairShape(), PairFitConfig().target_steps
    idle = ["shape.middle"] if middle is None and shape.middle != usual.middle else []
    if middle is not None:
        names = ("target", "drafter", "vocabulary_size")
        idle = [f"shape.{name}" for name in names if getattr(shape, name) != getattr(usual, name)]
        idle += ["fit.target_steps"] if fit.target_steps != steps else []
        idle += ["prompts"] if prompts != CutConfig() else []
    if idle:
        when = "without --middle" if middle is None else "with --middle"
        raise InputError(f"{when} the following does nothing: {', '.join(idle)}; leave it out")


def _load(folder: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    try:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        target: Any = LlamaForCausalLM.from_pretrained(folder, dtype="float32")
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Llama-architecture target with its tokenizer can be read from {folder} ({error}); give such a folder "
            "as middle"
        ) from error
    return target.eval(), tokenizer
