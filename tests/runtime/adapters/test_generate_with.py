"""A guest in transformers' generate writes the text of generate, and leaves everything as it was."""

import guests
import pytest
import tiny
import torch
import treewright
from guests import MASK, PADDED, PROMPT, generate
from treewright import InputError, generate_with
from treewright.runtime.adapters.generate.models import unsupported_reason


@pytest.mark.parametrize("ids", [PROMPT, PADDED], ids=["one", "padded"])
@pytest.mark.parametrize("drafts", [True, False], ids=["drafter", "plain"])
def test_a_greedy_text_is_that_of_generate(ids, drafts):
    guest = guests.guest() if drafts else generate_with()
    assert torch.equal(generate(ids, guest), generate(ids))
    assert (guest.stats.block_efficiency > 1.2) == drafts


def test_a_prompt_of_narrow_integers_gives_the_integers_of_generate():
    narrow = PROMPT.to(torch.int32)
    texts = [generate(narrow, guest) for guest in (guests.guest(), None)]
    assert torch.equal(*texts)
    assert [text.dtype for text in texts] == [torch.int64] * 2


@pytest.mark.parametrize("ids", [PROMPT, PADDED], ids=["one", "padded"])
@pytest.mark.parametrize("scheme", ["coupled", "fixed"])
def test_a_drafter_changes_no_sampled_text(ids, scheme):
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, scheme=scheme, guard=False)
    for options in ({"temperature": 0.7}, {"top_k": 5, "top_p": 0.9}, {"repetition_penalty": 1.5, "top_k": 0}):
        torch.manual_seed(3)
        plain = generate(ids, generate_with(), do_sample=True, **options)
        torch.manual_seed(3)
        assert torch.equal(generate(ids, guest, do_sample=True, **options), plain)
        assert guest.stats.num_accepted > 0


def test_a_seed_repeats_a_text_and_torchs_generator_does_without_one():
    seeded, unseeded = generate_with(seed=5), generate_with()
    texts = [generate(custom_generate=seeded, do_sample=True) for _ in range(2)]
    assert torch.equal(*texts)
    torch.manual_seed(1)
    first, second = (generate(custom_generate=unseeded, do_sample=True) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(generate(custom_generate=unseeded, do_sample=True), first)
    assert not torch.equal(first, second)


def test_a_greedy_text_takes_no_number_of_torchs_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    generate(custom_generate=guests.guest())
    assert torch.equal(torch.get_rng_state(), before)


def test_return_sequences_are_different_draws_and_their_first_tokens_have_the_models_distribution():
    sequences = generate(
        custom_generate=generate_with(guests.drafter(), dynamic=(1, 2, 2), guard=False, seed=1),
        do_sample=True,
        top_k=0,
        num_return_sequences=300,
        max_new_tokens=2,
    )
    counts = torch.bincount(sequences[:, PROMPT.shape[1]], minlength=tiny.VOCABULARY_SIZE)
    with torch.no_grad():
        probs = guests.target()(PROMPT).logits[0, -1].softmax(dim=-1)
    errors = (counts - 300 * probs).square() / (300 * probs)
    assert errors.sum() < 60.0  # chi-squared with 39 degrees of freedom: 0.98 quantile 59.2, mean 39


@pytest.mark.parametrize("drafts", [True, False], ids=["drafter", "plain"])
def test_models_have_their_own_attention_and_modes_again(drafts):
    model, drafter = tiny.llama().model, tiny.llama(noise=0.02).model
    for each in (model, drafter):
        each.set_attn_implementation("sdpa")
        each.train()
        each.model.layers[1].eval()
    generate(custom_generate=generate_with(drafter) if drafts else generate_with(), model=model)
    for each in (model, drafter):
        assert each.config._attn_implementation == "sdpa"
        modes = {name: module.training for name, module in each.named_modules()}
        assert not any(modes[name] for name in modes if name.startswith("model.layers.1"))
        assert all(modes[name] for name in modes if not name.startswith("model.layers.1"))


class LostStreamer:
    """Cancels at its third token."""

    def __init__(self):
        self.tokens = []

    def put(self, value):
        self.tokens += value.flatten().tolist()
        if len(self.tokens) == PROMPT.shape[1] + 3:
            raise ConnectionError("the reader has left")

    def end(self):
        raise AssertionError("it was not finished")


def test_an_exception_of_a_streamer_cancels_the_call_and_the_next_one_works():
    model = tiny.llama().model
    model.set_attn_implementation("sdpa")
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False)
    with pytest.raises(ConnectionError):
        generate(custom_generate=guest, model=model, streamer=LostStreamer())
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(generate(custom_generate=guest, model=model), generate(model=model))


def test_caches_outlive_a_call_until_they_are_released():
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False)
    generate(custom_generate=guest)
    opened = guest._decoders.of(guests.target())
    storage = opened.models[0].cache.storage
    generate(custom_generate=guest, max_new_tokens=8)
    assert guest._decoders.of(guests.target()) is opened
    assert opened.models[0].cache.storage is storage
    guest.release()
    assert opened.models[0].cache.storage.numel() == 0
    assert torch.equal(generate(custom_generate=guest), generate())


def test_a_model_that_was_cast_or_resized_between_two_calls_is_opened_anew():
    model, drafter = tiny.llama().model, tiny.llama(noise=0.02).model
    guest = generate_with(drafter, dynamic=guests.TREE, guard=False)
    for change in (lambda each: each, lambda each: each.float(), lambda each: each.resize_token_embeddings(45)):
        for each in (model, drafter):
            change(each)
        assert torch.equal(generate(custom_generate=guest, model=model), generate(model=model))
        assert guest.stats.num_accepted > 0


def test_one_guest_serves_several_models():
    other = tiny.llama(noise=0.05).model
    for model in (guests.target(), other, guests.target()):
        assert torch.equal(generate(custom_generate=guests.guest(), model=model), generate(model=model))


@pytest.mark.parametrize("rows", [36, 44])
def test_a_drafter_may_have_fewer_or_more_rows_than_its_target(rows):
    drafter = tiny.llama(noise=0.02).model
    drafter.resize_token_embeddings(rows, mean_resizing=False)
    guest = generate_with(drafter, dynamic=guests.TREE, guard=False)
    for options in ({}, {"do_sample": True, "top_k": 0}):
        torch.manual_seed(2)
        text = generate(PADDED, guest, **options)
        torch.manual_seed(2)
        assert torch.equal(text, generate(PADDED, generate_with(), **options))
        assert guest.stats.num_accepted > 0


class Nested:
    """Calls the guest that streams into it."""

    def put(self, value):
        generate(custom_generate=guests.guest())


def test_a_second_call_while_one_is_running_is_refused():
    with pytest.raises(InputError, match="generating already"):
        generate(custom_generate=guests.guest(), streamer=Nested())
    assert torch.equal(generate(custom_generate=guests.guest()), generate())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_other_architectures_write_their_text(family):
    model = tiny.model_of(family).model
    guest = generate_with(tiny.model_of(family, seed=1).model, dynamic=(2, 2, 4), guard=False)
    assert torch.equal(generate(PADDED, guest, model=model), generate(PADDED, model=model))


def test_models_that_cannot_be_decoded_are_refused_by_their_reason():
    assert unsupported_reason(guests.target()) is None
    model = tiny.llama().model
    model.set_attn_implementation("eager")
    assert "tree decoding needs sdpa attention" in str(unsupported_reason(model))
    with pytest.raises(InputError, match=r"the model .* needs sdpa attention"):
        generate(custom_generate=generate_with(), model=model)
    with pytest.raises(InputError, match=r"the drafter .* needs sdpa attention"):
        generate_with(model)
    model.set_attn_implementation("sdpa")
    model.config.is_encoder_decoder = True
    assert "encoder-decoder" in str(unsupported_reason(model))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dynamic": (1, 1, 1)}, "without a drafter"),
        ({"guard": False}, "without a drafter"),
        ({"drafter": True, "dynamic": (1, 1, 1), "selector": "reference"}, "choose one"),
        ({"drafter": True, "dynamic": (1, 1)}, "depth, width, budget"),
        ({"drafter": True, "dynamic": (0, 1, 1)}, "dynamic's depth is between"),
        ({"drafter": True, "selector": "reference", "scheme": "fixed"}, "leave scheme out"),
        ({"drafter": True, "scheme": "best"}, "no drafting scheme is called"),
        ({"drafter": True, "theta_scale": 1.0}, "without a selector"),
        ({"drafter": True, "selector": "reference", "theta_scale": 0.0}, "theta_scale is above 0"),
        ({"drafter": True, "selector": "nowhere"}, "no checkpoint folder"),
        ({"seed": -1}, "seed is between"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused_at_once(options, complaint):
    drafter = guests.drafter() if options.pop("drafter", False) else None
    with pytest.raises(InputError, match=complaint):
        treewright.generate_with(drafter, **options)


def test_the_mask_must_show_a_text_without_holes():
    for mask in ([[1, 0, 1, 1, 1]] * 3, [[1, 1, 1, 1, 0]] * 3, [[0, 0, 0, 0, 0]] * 3):
        with pytest.raises(InputError, match=r"attention_mask hides|holds no token"):
            generate(PADDED, guests.guest(), attention_mask=torch.tensor(mask))
    positions = (MASK.cumsum(dim=1) - 1).clamp_min(0)
    assert torch.equal(generate(PADDED, guests.guest(), position_ids=positions), generate(PADDED))
    with pytest.raises(InputError, match="position_ids count"):
        generate(PADDED, guests.guest(), position_ids=positions + 3)
