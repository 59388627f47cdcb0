"""Where the texts of a guest end, what is streamed meanwhile, and what comes out."""

from string import ascii_letters
from typing import Any

import guests
import pytest
import tiny
import torch
from guests import MASK, PADDED, PROMPT, generate
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, TextIteratorStreamer, TextStreamer
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import (
    EosTokenCriteria,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.utils import GenerateDecoderOnlyOutput
from treewright import InputError, generate_with


def words():
    return PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer())


class SumCriterion(StoppingCriteria):
    """Of the text alone: its tokens' sum is a multiple of a number."""

    def __init__(self, number):
        self.number = number

    def __call__(self, input_ids, scores, **_) -> Any:
        return input_ids.sum(dim=1) % self.number == 0


class CallCounter(StoppingCriteria):
    """Remembers what it was asked, and ends the text at the fifth call."""

    def __init__(self):
        self.lengths = []

    def __call__(self, input_ids, scores, **_) -> Any:
        self.lengths.append(input_ids.shape[1])
        return len(self.lengths) == 5


def both(ids=PROMPT, guest=None, **options):
    """The text of a guest, which is that of generate."""
    text = generate(ids, guest or guests.guest(), **options)
    assert torch.equal(text, generate(ids, **options))
    return text


@pytest.mark.parametrize("ids", [PROMPT, PADDED], ids=["one", "padded"])
def test_end_tokens_end_each_row_and_padding_fills_it(ids):
    for token in range(0, 40, 3):
        text = both(ids, eos_token_id=[token, token + 1], pad_token_id=0)
        assert text.shape[1] <= ids.shape[1] + 24


@pytest.mark.parametrize(("most_new", "most"), [(1, None), (7, None), (None, 17)])
def test_lengths_are_those_asked_for(most_new, most):
    both(PADDED, max_new_tokens=most_new, max_length=most)


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
def test_the_default_length_is_that_of_generate():
    assert both(max_new_tokens=None).shape[1] == PROMPT.shape[1] + 20


def test_a_text_may_end_with_the_context_and_not_behind_it():
    both(max_new_tokens=250)
    with pytest.raises(InputError, match=r"6 tokens and 251 more .* lower max_new_tokens"):
        generate(custom_generate=guests.guest(), max_new_tokens=251)


@pytest.mark.parametrize("number", [3, 7, 11])
def test_a_criterion_ends_the_text_at_the_first_token_where_it_holds(number):
    text = both(stopping_criteria=StoppingCriteriaList([SumCriterion(number)]))
    sums = text[0].cumsum(dim=0)[PROMPT.shape[1] :]
    assert (sums[:-1] % number != 0).all() and sums[-1] % number == 0


def test_a_criterion_that_remembers_is_asked_about_each_token_once_in_order():
    counters = [CallCounter(), CallCounter()]
    for counter, guest in zip(counters, (guests.guest(), None), strict=True):
        generate(custom_generate=guest, stopping_criteria=StoppingCriteriaList([counter]))
    assert counters[0].lengths == counters[1].lengths == [7, 8, 9, 10, 11]


def test_a_criterion_of_ones_own_over_several_rows_is_refused_unless_vouched_for():
    options = {"stopping_criteria": StoppingCriteriaList([SumCriterion(5)]), "eos_token_id": 39}
    with pytest.raises(InputError, match=r"criterion SumCriterion may look at all rows .*stateless"):
        generate(PADDED, guests.guest(), **options)
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, stateless=[SumCriterion])
    both(PADDED, guest, **options)


def test_without_end_tokens_rows_run_on_until_the_last_has_ended():
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, stateless=[SumCriterion])
    both(PADDED, guest, stopping_criteria=StoppingCriteriaList([SumCriterion(5)]), eos_token_id=None)


def test_criteria_of_transformers_given_as_objects_count():
    both(stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(9)]))
    both(stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(3)]))  # one token comes before it is asked
    both(stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(19), MaxLengthCriteria(12)]))
    both(PADDED, stopping_criteria=StoppingCriteriaList([EosTokenCriteria([7, 21])]))
    both(stopping_criteria=StoppingCriteriaList([MaxTimeCriteria(0.0)]))


def test_an_error_of_a_criterion_ends_the_call():
    class Broken(StoppingCriteria):
        def __call__(self, input_ids, scores, **_) -> Any:
            raise KeyError("nothing here")

    with pytest.raises(KeyError, match="nothing here"):
        generate(custom_generate=guests.guest(), stopping_criteria=StoppingCriteriaList([Broken()]))


def test_stop_strings_end_texts_by_the_tokenizer_given():
    letters = Tokenizer(BPE({letter: token for token, letter in enumerate(ascii_letters[:40])}, merges=[]))
    letters.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, tokenizer=tokenizer)
    stop = [tokenizer.decode(generate()[0, 10:12]), "never seen"]
    text = generate(custom_generate=guest, stop_strings=stop)
    assert torch.equal(text, generate(stop_strings=stop, tokenizer=tokenizer))
    assert text.shape[1] <= 12


def test_a_streamer_of_the_call_gets_the_prompt_and_each_token_and_is_ended():
    class Listener:
        def __init__(self):
            self.values = []

        def put(self, value):
            self.values.append(value.tolist())

        def end(self):
            self.values.append("end")

    heard, native, closed_over = Listener(), Listener(), Listener()
    text = generate(custom_generate=guests.guest(), streamer=heard, eos_token_id=30)
    generate(streamer=native, eos_token_id=30)
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, streamer=closed_over)
    generate(custom_generate=guest, eos_token_id=30)
    assert heard.values == native.values == closed_over.values
    assert heard.values == [PROMPT.tolist(), *([token] for token in guests.new_tokens(text)[0]), "end"]


def test_text_streamers_of_transformers_show_the_text(capsys):
    streamer = TextStreamer(words(), skip_prompt=True)
    text = generate(custom_generate=guests.guest(), streamer=streamer)
    assert capsys.readouterr().out.split() == [f"w{token}" for token in guests.new_tokens(text)[0]]
    pieces = TextIteratorStreamer(words(), skip_prompt=True, timeout=1)
    generate(custom_generate=guests.guest(), streamer=pieces)
    assert "".join(pieces).split() == [f"w{token}" for token in guests.new_tokens(text)[0]]


def test_the_guests_streamer_hears_nothing_of_a_call_that_is_refused():
    streamer = TextIteratorStreamer(words(), timeout=0)
    with pytest.raises(InputError, match="the model's context holds"):
        generate(custom_generate=generate_with(streamer=streamer), max_new_tokens=1000)
    assert streamer.text_queue.empty() and streamer.next_tokens_are_prompt


def test_a_streamer_of_several_texts_and_two_streamers_are_refused():
    guest = generate_with(streamer=TextIteratorStreamer(words()))
    with pytest.raises(InputError, match="a streamer takes one text, got 3"):
        generate(PADDED, guest)
    with pytest.raises(InputError, match="two streamers"):
        generate(custom_generate=guest, streamer=TextIteratorStreamer(words()))


@pytest.mark.parametrize("sampled", [False, True])
def test_scores_and_logits_are_those_of_generate_with_the_statistics_beside(sampled):
    options = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "repetition_penalty": 1.3}
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, seed=4)
    warped = {"do_sample": True, "temperature": 0.7, "top_k": 8} if sampled else {}
    found = generate(PADDED, guest, **options, **warped)
    forced = generate(
        PADDED,
        **options | warped,
        prefix_allowed_tokens_fn=lambda row, text: [int(found.sequences[row, len(text)])],
    )
    assert GenerateDecoderOnlyOutput in type(found).__mro__
    assert found.stats is guest.stats and found.stats.num_accepted > 0
    assert torch.equal(found.sequences, forced.sequences)
    assert len(found.scores) == len(found.logits) == 24
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(forced.logits), rtol=0, atol=1e-5)
    expected = generate(PADDED, **options) if not sampled else None
    if expected is not None:
        torch.testing.assert_close(torch.stack(found.scores), torch.stack(expected.scores), rtol=0, atol=1e-5)
    else:
        assert all(int(row.isfinite().sum()) == 8 for step in found.scores for row in step)
    scores = guests.target().compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    assert scores.shape == (3, 24) and (scores <= 0).all()


def test_a_processor_that_writes_into_what_it_is_given_counts_once():
    def lower(ids, scores):
        scores[:, 3] -= 2.0
        return scores

    options = {"return_dict_in_generate": True, "output_scores": True, "logits_processor": LogitsProcessorList([lower])}
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, stateless=[lower])
    found, expected = generate(custom_generate=guest, **options), generate(**options)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(found.scores), torch.stack(expected.scores), rtol=0, atol=1e-5)


def test_a_text_that_ended_has_no_scores_behind_it():
    options = {"return_dict_in_generate": True, "output_scores": True, "eos_token_id": [3, 20, 30]}
    found = generate(PADDED, guests.guest(), **options)
    ends = (found.sequences[:, PADDED.shape[1] :, None] == torch.tensor([3, 20, 30])).any(dim=2)
    assert ends.any(dim=1).any()
    for row, of_row in enumerate(ends.tolist()):
        length = of_row.index(True) + 1 if True in of_row else len(of_row)
        are_known = [bool(step[row].isfinite().any()) for step in found.scores]
        assert are_known == [place < length for place in range(len(of_row))]


def test_only_what_is_asked_for_is_returned():
    assert generate(custom_generate=guests.guest(), return_dict_in_generate=True).keys() == {"sequences", "stats"}
    assert isinstance(generate(custom_generate=guests.guest(), output_scores=True), torch.Tensor)


def test_a_criterion_sees_the_scores_of_its_text():
    class Sure(StoppingCriteria):
        def __call__(self, input_ids, scores, **_) -> Any:
            assert len(scores) == input_ids.shape[1] - PROMPT.shape[1]
            return scores[-1].softmax(dim=-1)[0, input_ids[0, -1]] > 0.9

    options: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    options["stopping_criteria"] = StoppingCriteriaList([Sure()])
    found, native = (generate(custom_generate=guest, **options) for guest in (guests.guest(), None))
    assert torch.equal(found.sequences, native.sequences)


def test_texts_of_different_lengths_without_a_padding_token_are_refused():
    guest = generate_with(stateless=[SumCriterion])
    config = guests.target().generation_config
    assert config.pad_token_id is None
    with pytest.raises(InputError, match="no pad_token_id"):
        generate(
            PADDED,
            guest,
            pad_token_id=None,
            stopping_criteria=StoppingCriteriaList([EosTokenCriteria([7, 21, 9, 3])]),
        )


def test_rows_of_one_prompt_end_each_for_itself():
    guest = generate_with(guests.drafter(), dynamic=guests.TREE, guard=False, seed=3)
    options = {"do_sample": True, "eos_token_id": [1, 2, 3], "num_return_sequences": 4, "attention_mask": MASK}
    text = generate(PADDED, guest, **options)
    assert text.shape[0] == 12
    for row in text[:, PADDED.shape[1] :].tolist():
        ends = [place for place, token in enumerate(row) if token in (1, 2, 3)]
        assert not ends or not any(row[ends[0] + 1 :])
