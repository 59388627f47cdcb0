"""Every option of generate is honoured exactly, or refused by its name."""

from typing import Any

import guests
import pytest
import torch
from guests import MASK, PADDED, PROMPT, generate
from transformers import DynamicCache, GenerationConfig
from transformers.generation import logits_process as lp
from treewright import InputError, generate_with
from treewright.runtime.adapters.generate import options as known
from treewright.runtime.adapters.generate import processors

ENDS = {"eos_token_id": [9, 20]}
PROCESSED = {  # at T = 0 and above
    "repetition_penalty": {"repetition_penalty": 1.4},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 0.6},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[7], [3, 4], [12, 13, 14]]},
    "sequence_bias": {"sequence_bias": {(7,): -10.0, (3, 4): 5.0}},
    "min_length": {"min_length": 20, **ENDS},
    "min_new_tokens": {"min_new_tokens": 12, **ENDS},
    "forced_bos_token_id": {"forced_bos_token_id": 8},
    "forced_eos_token_id": {"forced_eos_token_id": 8},
    "remove_invalid_values": {"remove_invalid_values": True},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (3, 1.5), "eos_token_id": 9},
    "suppress_tokens": {"suppress_tokens": [1, 2, 3, 30]},
    "begin_suppress_tokens": {"begin_suppress_tokens": [*range(20)]},
    "renormalize_logits": {"renormalize_logits": True},
    "prefix_allowed_tokens_fn": {
        "prefix_allowed_tokens_fn": lambda row, text: [(row + int(text[-1]) + n) % 40 for n in (1, 2, 5)]
    },
    "several": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "bad_words_ids": [[5]], "suppress_tokens": [6]},
}


@pytest.mark.parametrize("ids", [PROMPT, PADDED], ids=["one", "padded"])
@pytest.mark.parametrize("name", PROCESSED)
def test_a_processed_greedy_text_is_that_of_generate(name, ids):
    assert torch.equal(generate(ids, guests.guest(), **PROCESSED[name]), generate(ids, **PROCESSED[name]))


WARPED = {
    "temperature": ({"temperature": 0.6, "top_k": 0}, [lp.TemperatureLogitsWarper(0.6)]),
    "top_k": ({"top_k": 7}, [lp.TopKLogitsWarper(7)]),
    "top_p": ({"top_k": 0, "top_p": 0.7}, [lp.TopPLogitsWarper(0.7)]),
    "all three": (
        {"temperature": 1.4, "top_k": 9, "top_p": 0.8},
        [lp.TemperatureLogitsWarper(1.4), lp.TopKLogitsWarper(9), lp.TopPLogitsWarper(0.8)],
    ),
    "min_p": (
        {"temperature": 0.6, "top_k": 20, "min_p": 0.2},
        [lp.TemperatureLogitsWarper(0.6), lp.TopKLogitsWarper(20), lp.MinPLogitsWarper(0.2)],
    ),
    "typical_p": (
        {"temperature": 1.5, "top_k": 0, "typical_p": 0.5},
        [lp.TemperatureLogitsWarper(1.5), lp.TypicalLogitsWarper(0.5)],
    ),
    "epsilon_cutoff": ({"top_k": 0, "epsilon_cutoff": 0.03}, [lp.EpsilonLogitsWarper(0.03)]),
    "eta_cutoff": ({"top_k": 0, "eta_cutoff": 0.03}, [lp.EtaLogitsWarper(0.03)]),
    "top_h": (
        {"temperature": 0.9, "top_k": 11, "top_h": 0.5},
        [lp.TemperatureLogitsWarper(0.9), lp.TopHLogitsWarper(0.5), lp.TopKLogitsWarper(11)],
    ),
    "penalised": (
        {"temperature": 0.8, "top_k": 12, "repetition_penalty": 1.4},
        [lp.RepetitionPenaltyLogitsProcessor(1.4), lp.TemperatureLogitsWarper(0.8), lp.TopKLogitsWarper(12)],
    ),
    "renormalised": (
        {"temperature": 0.7, "top_k": 12, "renormalize_logits": True},
        [lp.TemperatureLogitsWarper(0.7), lp.TopKLogitsWarper(12)],
    ),
}


@pytest.mark.parametrize("name", WARPED)
def test_a_sampled_text_is_the_native_choice_by_the_same_warpers_and_the_noise_of_its_seed(name):
    options, warpers = WARPED[name]
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, seed=11)
    mask = torch.ones_like(PROMPT)
    native = generate(logits_processor=lp.LogitsProcessorList([*warpers, guests.Noise(11, mask)]))
    assert torch.equal(generate(custom_generate=guest, do_sample=True, **options), native)
    assert guest.stats.num_accepted > 0


def test_rows_have_noise_of_their_own_and_padding_no_position():
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, seed=11)
    warpers = [lp.TemperatureLogitsWarper(0.9), lp.TopKLogitsWarper(50), guests.Noise(11, MASK)]
    native = generate(PADDED, logits_processor=lp.LogitsProcessorList(warpers))
    assert torch.equal(generate(PADDED, guest, do_sample=True, temperature=0.9), native)


def test_a_processor_given_as_an_object_is_honoured_in_its_place():
    given = lp.LogitsProcessorList([lp.MinPLogitsWarper(0.1), lp.SuppressTokensLogitsProcessor([3])])
    options = {"logits_processor": given, "do_sample": True, "temperature": 0.8, "top_k": 10}
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, seed=2)
    warpers = [
        *given,
        lp.TemperatureLogitsWarper(0.8),
        lp.TopKLogitsWarper(10),
        guests.Noise(2, torch.ones_like(PROMPT)),
    ]
    native = generate(logits_processor=lp.LogitsProcessorList(warpers))
    assert torch.equal(generate(custom_generate=guest, **options), native)


def test_a_watermarked_text_is_that_of_generate():
    mark = lp.WatermarkLogitsProcessor(40, "cpu", bias=3.0)
    options: dict[str, Any] = {"logits_processor": lp.LogitsProcessorList([mark])}
    assert torch.equal(generate(PADDED, guests.guest(), **options), generate(PADDED, **options))


class Favourite(lp.LogitsProcessor):
    """Of the user's own: favours the token after the last."""

    def __call__(self, input_ids, scores):
        favoured = scores.clone()
        rows = torch.arange(len(scores))
        favoured[rows, (input_ids[:, -1] + 1) % 40] += 2.0
        return favoured


def test_a_processor_of_ones_own_is_refused_unless_vouched_for():
    options: dict[str, Any] = {"logits_processor": lp.LogitsProcessorList([Favourite()])}
    with pytest.raises(InputError, match=r"logits processor Favourite may remember .*stateless"):
        generate(custom_generate=guests.guest(), **options)
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, stateless=[Favourite])
    assert torch.equal(generate(PADDED, guest, **options), generate(PADDED, **options))


def test_processors_that_remember_are_refused_by_name():
    with pytest.raises(InputError, match="UnbatchedClassifierFreeGuidanceLogitsProcessor may remember"):
        generate(custom_generate=guests.guest(), guidance_scale=1.5)


def test_every_processor_that_generate_makes_for_text_is_known():
    """Of those of transformers that are not for one family of models."""
    families = ("Whisper", "Bark", "Dia", "AlternatingCodebooks")
    stateful = {
        "UnbatchedClassifierFreeGuidanceLogitsProcessor",
        "ClassifierFreeGuidanceLogitsProcessor",
        "SynthIDTextWatermarkLogitsProcessor",
    }
    made = {
        kind
        for name, kind in vars(lp).items()
        if isinstance(kind, type)
        and issubclass(kind, lp.LogitsProcessor)
        and kind is not lp.LogitsProcessor
        and not name.startswith(families)
        and name not in stateful
    }
    bound = {"RepetitionPenalty", "PrefixConstrained", "EncoderRepetitionPenalty", "EncoderNoRepeatNGram"}
    assert made == processors.BY_ROW | {getattr(lp, f"{name}LogitsProcessor") for name in bound}


REFUSED = {
    "num_beams": 2,
    "use_cache": False,
    "cache_implementation": "static",
    "cache_config": {"backend": "quanto"},
    "max_cache_len": 100,
    "output_attentions": True,
    "output_hidden_states": True,
    "prompt_lookup_num_tokens": 3,
    "max_matching_ngram_size": 2,
    "assistant_early_exit": 1,
    "assistant_ensemble_weight": 0.5,
    "use_mtp": True,
    "speculation_type": "dflash",
    "continuous_batching_config": object(),
    "compile_config": object(),
    "low_memory": True,
    "penalty_alpha": 0.6,
    "dola_layers": "low",
    "diversity_penalty": 0.5,
    "num_beam_groups": 2,
    "constraints": [object()],
    "force_words_ids": [[3]],
    "prefill_chunk_size": 4,
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_cannot_be_honoured_is_refused_by_name(name):
    config = GenerationConfig()
    setattr(config, name, REFUSED[name])
    with pytest.raises(InputError, match=f"^{name}="):
        known.refuse_options(config)


def test_every_option_of_transformers_is_honoured_or_refused():
    names = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert names - known.HONOURED - known.WITHOUT_MEANING <= REFUSED.keys()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_beams": 2}, "num_beams=2"),
        ({"use_cache": False}, "use_cache=False"),
        ({"output_attentions": True}, "output_attentions=True"),
        ({"past_key_values": DynamicCache()}, "past_key_values cannot be used"),
        ({"inputs_embeds": torch.zeros((1, 6, 32), dtype=torch.float64)}, "'inputs_embeds'"),
        ({"synced_gpus": True}, "synced_gpus"),
        ({"stop_strings": ["w3"]}, r"generate_with\(tokenizer"),
    ],
    ids=str,
)
def test_what_generate_would_pass_on_and_cannot_be_honoured_is_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        generate(custom_generate=guests.guest(), **options)


def test_an_assistant_model_beside_a_guest_is_refused():
    with pytest.raises(InputError, match="assistant_model and generate_with both draft"):
        generate(custom_generate=guests.guest(), assistant_model=guests.drafter())


def test_entries_of_a_models_own_configuration_pass():
    config = GenerationConfig(pad_token_id=0, max_new_tokens=5)
    config.update(chat_format="of this model", allow_custom_entries=True)
    text = guests.target().generate(PROMPT, generation_config=config, custom_generate=guests.guest())
    assert torch.equal(text, generate(max_new_tokens=5))
