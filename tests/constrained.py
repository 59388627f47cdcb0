"""A tokenizer of forty characters for the tiny models, and requests under constraints of many kinds."""

from dataclasses import replace

import tiny
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from treewright.runtime.constraints.constrain import Constrainer
from treewright.runtime.constraints.settings import Constraints

CHARACTERS = '{}[]":,-. 0123456789abcdefghijklmnorstu'
END, OTHER_END = len(CHARACTERS), 38  # `u` may end texts as well
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["on", "off"]}}, "required": ["b"]}'


def characters() -> Tokenizer:
    """One character per token, and an end token."""
    vocabulary = {("\u0120" if each == " " else each): token for token, each in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary | {"<end>": END}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def constrainer(ends=frozenset({END})) -> Constrainer:
    return Constrainer(tiny.words(characters()), ends, tiny.VOCABULARY_SIZE)


def compiled(kind: str):
    """The grammar of one of the kinds."""
    grammar = KINDS[kind].follows
    assert grammar is not None
    return constrainer()._grammars.compile(grammar)


def ids(text: str) -> list[int]:
    return characters().encode(text).ids


KINDS = {
    "nothing": Constraints(),
    "biases": Constraints(logit_bias={3: -100.0, 5: 2.0, 7: 0.5}),
    "repetition": Constraints(repetition_penalty=1.7),
    "frequency and presence": Constraints(frequency_penalty=0.6, presence_penalty=-0.3),
    "bans": Constraints(bad_words=("a", "01"), allowed_token_ids=tuple(range(8, 40)), min_tokens=12),
    "min_p": Constraints(min_p=0.4),
    "all together": Constraints(
        logit_bias={4: 1.0},
        repetition_penalty=1.2,
        frequency_penalty=0.2,
        presence_penalty=0.1,
        bad_words=("b",),
        min_tokens=3,
        stop_token_ids=(OTHER_END,),
        min_p=0.05,
    ),
    "json": Constraints(json_schema=SCHEMA),
    "regex": Constraints(regex="(ab|cd)[0-9]{2,5}(, [a-f]+)*", presence_penalty=0.5),
    "choices": Constraints(choices=("on", "off", "onto", "no"), min_p=0.1),
    "grammar": Constraints(grammar='root ::= "[" item ("," item)* "]"\nitem ::= [0-9] | root'),
}


def requests(temperature, kinds=tuple(KINDS), *, seed=0, **sampling):
    """One for each kind, in a batch of unlike ones."""
    of = constrainer()
    plain = tiny.requests(len(kinds), temperature, **sampling)
    seeded = (replace(each, sampling=replace(each.sampling, seed=each.sampling.seed + seed)) for each in plain)
    return [of.constrained(request, KINDS[kind]) for request, kind in zip(seeded, kinds, strict=True)]
