"""From what is asked of a text to a request that the decode loop takes."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ...controller.errors import SettingError
from ..pair import Pair
from ..processing import RowProcessor
from ..request import Request
from ..text.stopping import Stops
from ..text.tokenizer import Tokenizer
from .allowed import AllowedTokens
from .bad_words import BadWords
from .base import Chain
from .frequency import FrequencyPenalty
from .grammars.compiler import GrammarCompiler
from .grammars.mask import GrammarMask
from .grammars.trial import Limits
from .logit_bias import LogitBias
from .min_p import MinP
from .min_tokens import MinTokens
from .repetition import RepetitionPenalty
from .settings import Constraints


class Constrainer:
    """Of one target, by its tokenizer, its end tokens and the number of tokens that it has rows for. Grammars are
    compiled under `limits` if there are any, see `GrammarCompiler`."""

    def __init__(
        self, tokenizer: Tokenizer, end_tokens: frozenset[int], vocabulary_size: int, limits: Limits | None = None
    ):
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._vocabulary_size = vocabulary_size
        self._special = tokenizer.detokeniser.special_tokens
        self._grammars = GrammarCompiler(tokenizer, end_tokens, limits)

    @classmethod
    def of(cls, pair: Pair, limits: Limits | None = None) -> "Constrainer":
        return cls(pair.tokenizer, pair.end_tokens, pair.target.vocabulary_size, limits)

    def close(self) -> None:
        """Under limits, let nobody wait for a grammar any more; any thread may ask."""
        self._grammars.close()

    def constrained(self, request: Request, constraints: Constraints) -> Request:
        """The request under the constraints: as it was where they ask nothing. Raises as `constrained_alike`."""
        return self.constrained_alike([request], constraints)[0]

    def constrained_alike(self, requests: Sequence[Request], constraints: Constraints) -> list[Request]:
        """Requests that fail together, under the same constraints. It may take seconds, for a grammar.

        InputError for what cannot be asked of this target, or together; raises as `GrammarCompiler` does.
        """
        for name in ("logit_bias", "allowed_token_ids", "stop_token_ids"):
            self._require_known(name, getattr(constraints, name))
        grammar = constraints.follows
        if grammar is not None and any(request.ignore_end for request in requests):
            says = "continues a text past its end, and its grammar says where that is; leave one of them out"
            raise SettingError("ignore_eos", says)
        if grammar is None:
            return [self._constrained(request, constraints, None) for request in requests]
        of_texts = self._grammars.compile(grammar)
        has_trees = any(request.speculates for request in requests)
        of_paths = self._grammars.compile(grammar) if has_trees else of_texts  # see `GrammarMask`
        return [
            self._constrained(request, constraints, GrammarMask(of_texts, of_paths, self._end_tokens))
            for request in requests
        ]

    def _constrained(self, request: Request, constraints: Constraints, grammar: GrammarMask | None) -> Request:
        stop_tokens = frozenset(constraints.stop_token_ids)
        request = replace(request, stop_tokens=stop_tokens, min_tokens=constraints.min_tokens)
        members = self._members(request, constraints, grammar)
        processor = None if not members else members[0] if len(members) == 1 else Chain(members)
        return replace(request, processor=processor, reach=None if grammar is None else grammar.reach)

    def _members(self, request: Request, asked: Constraints, grammar: GrammarMask | None) -> list[RowProcessor]:
        """In the order in which they are applied, which is vLLM's."""
        members: list[RowProcessor] = []
        if any(asked.logit_bias.values()):
            members.append(LogitBias(asked.logit_bias))
        if asked.repetition_penalty != 1:
            members.append(RepetitionPenalty(asked.repetition_penalty, request.prompt_ids))
        if asked.frequency_penalty or asked.presence_penalty:
            members.append(FrequencyPenalty(asked.frequency_penalty, asked.presence_penalty))
        members += self._bans(request, asked)
        if grammar is not None:
            members.append(grammar)
        if asked.min_p and not request.sampling.is_greedy:
            members.append(MinP(asked.min_p, request.sampling.temperature))
        return members

    def _bans(self, request: Request, asked: Constraints) -> list[RowProcessor]:
        """InputError where they might leave no token at all."""
        bans: list[RowProcessor] = []
        may_be_banned: set[int] = set()
        if asked.allowed_token_ids:
            bans.append(AllowedTokens(asked.allowed_token_ids))
        if asked.bad_words:
            words = {spelling for word in asked.bad_words for spelling in self._spellings(word)}
            may_be_banned |= {word[-1] for word in words}
            bans.append(BadWords(words))
        ends = request.end_tokens(self._end_tokens, Stops.of(request.stop, self._special))
        if asked.min_tokens and ends:
            may_be_banned |= ends
            bans.append(MinTokens(asked.min_tokens, ends))
        allowed = set(asked.allowed_token_ids)
        if allowed <= may_be_banned if allowed else len(may_be_banned) >= self._vocabulary_size:
            raise SettingError(
                "allowed_token_ids" if allowed else "bad_words",
                "may leave no token that bad_words and min_tokens do not ban; leave one of them out",
            )
        return bans

    def _spellings(self, word: str) -> list[tuple[int, ...]]:
        """The tokens of a word as it is, and behind a space."""
        spellings = [
            tuple(token for token in self._tokenizer.encode(text) if token not in self._special.values())
            for text in (word, f" {word.lstrip()}")
        ]
        if not all(spellings):
            raise SettingError("bad_words", f"holds {word!r}, which has no tokens of its own; leave it out")
        return spellings

    def _require_known(self, name: str, tokens: Collection[int]) -> None:
        largest = max(tokens, default=0)
        if largest >= self._vocabulary_size:
            most = self._vocabulary_size - 1
            raise SettingError(name, f"names the token id {largest}, and the largest of this target is {most}")
