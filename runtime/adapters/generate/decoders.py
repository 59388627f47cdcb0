"""The decoder of a guest for each model that it was used with: caches, and what a guard has learned, outlive a call."""

from typing import Any, NamedTuple

from transformers import PreTrainedModel

from ...decoder import Decoder
from ...drafters.language_model import LanguageModelDrafter
from ...drafters.memory import remembering
from ...table_fit import TableWatch
from ...target import Target
from ...verification.walk import WalkVerifier
from .drafting import TreePolicy
from .models import WholeModel, layout, wrapped


class Opened(NamedTuple):
    """A decoder with the models that it runs; they hold its caches."""

    decoder: Decoder
    models: list[WholeModel]
    layouts: list[tuple[Any, ...]]  # of the models when it was made

    @property
    def fits(self) -> bool:
        """Whether the models have not been moved, cast or resized since."""
        return self.layouts == [layout(each.model) for each in self.models]

    def release(self) -> None:
        for model in self.models:
            model.release()


class Decoders:
    """Of one drafter, or plain ones without. Models stay in memory as long as they are kept here."""

    def __init__(self, drafter: PreTrainedModel | None, policy: TreePolicy | None):
        self._drafter = drafter
        self._policy = policy
        self._opened: dict[int, Opened] = {}  # by the identity of a target, which lives as long

    def of(self, target: PreTrainedModel) -> Opened:
        """The decoder of a target, whose models are lent; InputError where they cannot be decoded as trees, and where
        a selector lacks its latency table."""
        opened = self._opened.get(id(target))
        if opened is None or not opened.fits:
            if opened is not None:
                opened.release()
            opened = self._opened[id(target)] = self._open(target)
        return opened

    def release(self) -> None:
        """Free the caches and forget the targets."""
        for opened in self._opened.values():
            opened.release()
        self._opened.clear()

    def _open(self, target: PreTrainedModel) -> Opened:
        if self._drafter is None or self._policy is None:
            model = wrapped(target, "the model")
            return Opened(Decoder(Target(model), WalkVerifier(), None, frozenset()), [model], [layout(target)])
        table = self._policy.table(target, self._drafter)
        selector = self._policy.build(table)
        models = [wrapped(target, "the model"), wrapped(self._drafter, "the drafter")]
        models[1].vocabulary_size = models[0].vocabulary_size
        of_target, memory = remembering(models[0], self._policy.memory)
        ngrams = selector.limits.ngrams
        drafter = LanguageModelDrafter(models[1], self._policy.scheme, ngrams=ngrams, memory=memory)
        watch = None if table is None else TableWatch(table)
        decoder = Decoder(
            of_target,
            WalkVerifier(),
            None,
            frozenset(),
            drafter=drafter,
            selector=selector,
            observer=watch,
        )
        return Opened(decoder, models, [layout(target), layout(self._drafter)])
