"""What does not go together with trees, or with another vLLM, is refused in a sentence before anything is decoded."""

import pytest
from treewright.runtime.pair_config import reference_folder
from vllm_toys import BUDGET, WHOLE_TREES, WORKER, engine, generate, prompts, trees, write_head, write_model

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_model(folder / "target"), write_model(folder / "drafter", noise=0.03)


def changed(options, **speculative):
    return options | {"speculative_config": options["speculative_config"] | speculative}


def cases(target, drafter):
    given = trees("draft_model", target, drafter)
    whole = trees("whole", target, drafter)
    return {
        "draft_sample_method probabilistic and trees": changed(given, draft_sample_method="probabilistic"),
        "num_speculative_tokens_per_batch_size and trees": changed(
            given, num_speculative_tokens_per_batch_size=[(1, 8, 2)]
        ),
        "--kv-cache-dtype and trees do not go together": given | {"kv_cache_dtype": "fp8"},
        "treewright.drafter is the model of best_first.TreeProposer alone": given
        | {"additional_config": {"treewright": {"drafter": drafter}}},
        "treewright.repair_sampling mends a sampler": trees("whole", target, drafter, repair_sampling=True),
        "treewright.record is for --worker-cls treewright.collect": trees("whole", target, drafter, record="x"),
        "treewright shapes drafts, but no --speculative-config": {
            "model": target,
            "worker_cls": WORKER,
            "additional_config": {"treewright": {"depth": 2}},
        },
        "treewright.tree has 10 nodes": trees("draft_model", target, drafter, tree=str([(n,) for n in range(10)])),
        "TreeProposer needs its model": whole | {"additional_config": {}},
        "TreeProposer drafts trees, which worker": {k: v for k, v in whole.items() if k != "worker_cls"},
        "reads 512 tokens, and texts may have 600": whole
        | {"max_model_len": 600, "hf_overrides": {"max_position_embeddings": 1024}},
        "has another tokenizer than the target": trees("whole", target, str(reference_folder() / "drafter")),
        "treewright.dept is no setting": trees("draft_model", target, drafter, dept=2),
    }


def test_options_that_do_not_go_together_are_refused_by_name(toys):
    for sentence, options in cases(*toys).items():
        with pytest.raises(Exception, match=sentence.replace(".", r"\.")), engine(**options):
            pass


def test_lengths_of_chains_refuse_what_is_for_trees(toys):
    from treewright.runtime.adapters.vllm.plugin import register, withdraw

    register()
    given = trees("draft_model", *toys, tree="[(0,)]")
    del given["worker_cls"]
    with pytest.raises(ValueError, match=r"treewright\.tree does not go together"), engine(**given):
        pass
    withdraw()


def test_another_release_or_signature_of_vllm_is_refused():
    from treewright.controller.errors import InputError
    from treewright.runtime.adapters.vllm.checks import PROPOSERS, WORKER, require_known

    require_known((*PROPOSERS, *WORKER))
    for version in ("0.31.4", "0.33.0", "1.0"):
        with pytest.raises(InputError, match=f"runs inside vLLM from 0.32 to below 0.33, got {version}"):
            require_known((), version)

    def _sample(self, logits):
        raise NotImplementedError

    with pytest.raises(InputError, match=r"_sample of vLLM .* takes \(self logits\), and treewright was written for"):
        require_known(((_sample, "self logits spec_decode_metadata"),))


@pytest.mark.parametrize("method", ["draft_model", "eagle3"])
def test_lengths_of_chains_keep_the_greedy_text(toys, tmp_path, method):
    from treewright.runtime.adapters.vllm.plugin import register, withdraw

    target, drafter = toys
    with engine(target) as llm:
        expected = generate(llm, prompts())
    register()
    options = trees(method, target, drafter if method == "draft_model" else write_head(tmp_path / method, method))
    options |= {"additional_config": {"treewright": {"depth": 5, "width": 1, "path_prob": 0.2}}}
    del options["worker_cls"]
    with engine(**options) as llm:
        assert generate(llm, prompts()) == expected
        counts = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    withdraw()
    assert counts["vllm:spec_decode_num_draft_tokens"] < BUDGET * counts["vllm:spec_decode_num_drafts"]


def test_the_proposers_model_is_named_by_its_path():
    from treewright.runtime.adapters.vllm import launch

    assert launch.WHOLE_TREES == WHOLE_TREES
    assert launch.WORKER == WORKER
