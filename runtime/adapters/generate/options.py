"""Which options of `generate` a guest honours; every other one is refused by its name.

Most reach a guest as what transformers makes of them, logits processors and stopping criteria, and are not listed here.
"""

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig

from ....controller.errors import InputError

# Options that the lists of processors and criteria hold, or that `generate` and the guest act on.
HONOURED = frozenset(
    [
        "max_length",
        "max_new_tokens",
        "min_length",
        "min_new_tokens",
        "max_time",
        "stop_strings",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "top_h",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "repetition_penalty",
        "encoder_repetition_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids",
        "renormalize_logits",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "remove_invalid_values",
        "exponential_decay_length_penalty",
        "suppress_tokens",
        "begin_suppress_tokens",
        "sequence_bias",
        "token_healing",
        "guidance_scale",
        "watermarking_config",
        "num_return_sequences",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "disable_compile",
        "use_cache",
    ]
)
# Options that `generate` itself does not look at where neither beams nor an assistant model are asked for.
WITHOUT_MEANING = frozenset(
    [
        "early_stopping",
        "length_penalty",
        "decoder_start_token_id",
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "target_lookbehind",
        "transformers_version",
    ]
)
# Values that ask for nothing, of the others.
NEUTRAL: Mapping[str, Any] = {"num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0}
KEPT_CACHE = "the guest keeps a cache of its own"
DRAFTING = "how tokens are drafted is said to generate_with"
WHY: Mapping[str, str] = {
    "num_beams": "a beam search has no text that a draft could be held against",
    "cache_implementation": KEPT_CACHE,
    "cache_config": KEPT_CACHE,
    "max_cache_len": KEPT_CACHE,
    "output_attentions": "draft trees are verified without attention weights",
    "output_hidden_states": "the guest keeps no hidden states",
    "prompt_lookup_num_tokens": DRAFTING,
    "assistant_early_exit": DRAFTING,
    "use_mtp": DRAFTING,
    "speculation_type": DRAFTING,
    "compile_config": "the guest runs the model uncompiled",
    "prefill_chunk_size": "the guest reads prompts in chunks of its own",
}


def refuse_options(config: GenerationConfig) -> None:
    """InputError for the first option that would not be honoured."""
    if config.use_cache is False:
        raise InputError(f"use_cache=False has no effect here, for {KEPT_CACHE}; leave it out")
    known = vars(GenerationConfig())  # entries of its own, such as a model's file may hold, transformers passes over
    for name, value in vars(config).items():
        if name not in known or name.startswith("_") or name in HONOURED or name in WITHOUT_MEANING:
            continue
        if value is None or value is False or value == NEUTRAL.get(name):
            continue
        why = f": {WHY[name]}" if name in WHY else ""
        raise InputError(f"{name}={value!r} cannot be honoured under generate_with{why}; leave it out")


def refuse_inputs(inputs: Mapping[str, Any]) -> None:
    """InputError for what `generate` would hand to the model besides tokens and their mask."""
    for name, value in inputs.items():
        if name == "past_key_values":
            if value is not None and value.get_seq_length() > 0:  # an empty one is of `generate`'s own making
                raise InputError(f"past_key_values cannot be used, for {KEPT_CACHE}; leave them out")
        elif name not in ("attention_mask", "position_ids", "use_cache", "logits_to_keep") and value is not None:
            raise InputError(f"generate_with decodes token ids alone, got {name!r} beside them; leave it out")
