"""A guest under a learned selector: its latency table, its scheme, and what is said where one is missing."""

from dataclasses import replace
from typing import Any

import checkpoints
import guests
import plans
import pytest
import torch
from guests import PADDED, generate
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from treewright import InputError, generate_with
from treewright.controller.policies.guard import Guard
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.adapters.generate.drafting import Drafting, TreePolicy, latency_key
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.pair_config import reference_folder


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """The file of the latency table of the tiny models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = latency_key(guests.target(), guests.drafter())
    path = cache_path(key)
    path.parent.mkdir(parents=True)
    table = plans.TABLE
    type(table)(**{**vars(table), "key": key}).save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints.write(tmp_path_factory.mktemp("selector") / "checkpoint")


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 0.8}], ids=["greedy", "sampled"])
def test_a_learned_selector_changes_no_text(stored, checkpoint, options):
    guest = generate_with(guests.drafter(), checkpoint, theta_scale=0.2, guard=False)
    torch.manual_seed(1)
    text = generate(PADDED, guest, **options)
    torch.manual_seed(1)
    assert torch.equal(text, generate(PADDED, generate_with(), **options))
    assert guest.stats.num_kept > 0


def test_the_guard_watches_unless_it_is_switched_off(stored, checkpoint):
    for drafting in (Drafting(), Drafting(dynamic=(1, 2, 2)), Drafting(checkpoint)):
        for guard in (True, False):
            policy = TreePolicy(replace(drafting, guard=guard), None)
            built = policy.build(policy.table(guests.target(), guests.drafter()))
            assert isinstance(built, Guard) == guard


def test_a_selector_without_a_latency_table_names_the_command_that_measures_it(stored, checkpoint):
    stored.unlink()
    guest = generate_with(guests.drafter(), checkpoint)
    command = r"`treewright profile --pair.target FOLDER --pair.drafter FOLDER --pair.dtype float64 --pair.threads \d+`"
    with pytest.raises(InputError, match=f"no latency table for the two models yet.*{command}"):
        generate(custom_generate=guest)


def test_a_table_of_another_number_of_threads_is_named(stored, checkpoint):
    key = latency_key(guests.target(), guests.drafter()) | {"threads": "2"}
    stored.rename(cache_path(key))
    table = plans.TABLE
    type(table)(**{**vars(table), "key": key}).save(cache_path(key))
    with pytest.raises(InputError, match=r"for 2 CPU threads, and torch runs on 1; call torch.set_num_threads\(2\)"):
        generate(custom_generate=generate_with(guests.drafter(), checkpoint))


def test_models_in_two_number_formats_have_no_table(checkpoint):
    policy = TreePolicy(Drafting(checkpoint), None)
    with pytest.raises(InputError, match="got float64 and float32; load both in one dtype"):
        policy.table(guests.target(), AutoModelForCausalLM.from_config(guests.drafter().config).float())


def test_a_selector_of_another_tokenizer_is_refused_where_the_tokenizer_is_known(checkpoint):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=guests.tiny.tokenizer())
    with pytest.raises(InputError, match="whose tokenizer differs from that of these models"):
        generate_with(guests.drafter(), checkpoint, tokenizer=tokenizer)


def test_loaded_models_have_the_key_that_profile_measures_their_folders_under():
    pair = load_pair(PairConfig(threads=1))
    models = [AutoModelForCausalLM.from_pretrained(reference_folder() / role) for role in ("target", "drafter")]
    key = latency_key(*(model.float() for model in models))
    assert key == pair.latency_key


def test_the_shipped_selector_is_found_by_its_name():
    policy = TreePolicy(Drafting("reference"), None)
    assert policy.checkpoint is not None and policy.checkpoint.config.pair == "reference"


def test_a_drafter_that_is_a_folder_and_no_model_is_refused():
    folder: Any = "folder"
    with pytest.raises(InputError, match=r"the drafter is a loaded model of transformers, got 'folder'; load it with"):
        generate_with(folder)
