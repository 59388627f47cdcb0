"""What may be asked of a text besides how it is sampled."""

from dataclasses import dataclass, field

from ...controller.errors import InputError, SettingError, named
from ...controller.ranges import require_above, require_at_least, require_between, require_whole
from .grammars.source import Grammar, GrammarKind

MOST_BIASES = 1024
MOST_WORDS = 128
MOST_BIAS = 100.0  # OpenAI's
MOST_PENALTY = 2.0  # OpenAI's
MOST_REPETITION = 100.0


@dataclass(frozen=True)
class Constraints:
    """Asked of one text; the defaults ask nothing. At each place of a text they are a function of the text before it,
    applied to the target's logits in this order: biases; penalties of repetition, then of frequency and presence; bans
    of tokens; the grammar; min_p. The temperature, top_k and top_p follow."""

    logit_bias: dict[int, float] = field(default_factory=dict)
    """Numbers between -100 and 100 that are added to the logits of tokens, by token id"""
    repetition_penalty: float = 1.0
    """What the logits of tokens of prompt and text are divided by where they are positive, multiplied by where they are
    not; 1 is none"""
    frequency_penalty: float = 0.0
    """What a token's logit loses for each of its occurrences in the text, between -2 and 2"""
    presence_penalty: float = 0.0
    """What it loses if it occurs at all, between -2 and 2"""
    allowed_token_ids: tuple[int, ...] = ()
    """The only tokens that the text may hold; all where none are given"""
    bad_words: tuple[str, ...] = ()
    """Words that the text does not hold as the tokenizer spells them, alone or behind a space"""
    min_tokens: int = 0
    """Tokens before which neither an end token nor a stop string ends the text"""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the text besides the model's own, as they do without being part of it"""
    min_p: float = 0.0
    """Ban tokens with less than this much of the likeliest one's probability, at the temperature; 0 is off"""
    json_schema: str | None = None
    """The text is JSON of this schema (a JSON text); '{"type": "object"}' takes any object"""
    regex: str | None = None
    """The whole text matches this regular expression, of the syntax of Rust's `regex` without look-around"""
    choices: tuple[str, ...] = ()
    """The text is one of these"""
    grammar: str | None = None
    """The text follows this grammar, in Lark's notation or GBNF; its first rule is `start` or `root`"""

    def __post_init__(self) -> None:
        _require_most("logit_bias", len(self.logit_bias), MOST_BIASES, "tokens")
        for token, bias in self.logit_bias.items():
            _require_token("logit_bias", token)
            with named(f"logit_bias of token {token}"):
                require_between("it", bias, -MOST_BIAS, MOST_BIAS)
        require_above("repetition_penalty", self.repetition_penalty, 0)
        require_between("repetition_penalty", self.repetition_penalty, 0, MOST_REPETITION)
        require_between("frequency_penalty", self.frequency_penalty, -MOST_PENALTY, MOST_PENALTY)
        require_between("presence_penalty", self.presence_penalty, -MOST_PENALTY, MOST_PENALTY)
        require_between("min_p", self.min_p, 0, 1)
        require_whole("min_tokens", self.min_tokens)
        require_at_least("min_tokens", self.min_tokens, 0)
        for name in ("allowed_token_ids", "stop_token_ids"):
            for token in getattr(self, name):
                _require_token(name, token)
        _require_most("bad_words", len(self.bad_words), MOST_WORDS, "words")
        for name in ("bad_words", "choices"):
            if not all(getattr(self, name)):
                raise SettingError(name, "holds an empty text; leave it out")
        self._check_grammar()

    def _check_grammar(self) -> None:
        given = [grammar.kind.value for grammar in self._grammars]
        if len(given) > 1:
            says = f"and {' and '.join(given[1:])} are both given, and a text follows one grammar; choose one"
            raise SettingError(given[0], says)
        if given:
            bans = {
                "allowed_token_ids": bool(self.allowed_token_ids),
                "bad_words": bool(self.bad_words),
                "min_tokens": self.min_tokens > 0,
            }
            for name, is_given in bans.items():
                if is_given:
                    says = "may ban what the text's grammar asks for, so that nothing is left; leave one of them out"
                    raise SettingError(name, says)

    @property
    def follows(self) -> Grammar | None:
        """The grammar of the text, if there is one."""
        return next(iter(self._grammars), None)

    @property
    def _grammars(self) -> list[Grammar]:
        """All that are given."""
        texts = {
            GrammarKind.JSON_SCHEMA: self.json_schema,
            GrammarKind.REGEX: self.regex,
            GrammarKind.CHOICES: Grammar.of_choices(self.choices).text if self.choices else None,
            GrammarKind.GRAMMAR: self.grammar,
        }
        return [Grammar(kind, text) for kind, text in texts.items() if text is not None]


def _require_token(name: str, token: object) -> None:
    with named(name):
        require_whole("a token id", token)
        if isinstance(token, int) and token < 0:
            raise InputError(f"a token id is at least 0, got {token}")


def _require_most(name: str, count: int, most: int, what: str) -> None:
    if count > most:
        raise SettingError(name, f"takes up to {most} {what}, got {count}; leave some out")
