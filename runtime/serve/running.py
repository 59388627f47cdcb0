"""The texts that are being decoded, as the decode thread sees them."""

import logging
from collections import Counter
from collections.abc import Callable

from ...controller.errors import InputError
from ..decoder import Decoder
from ..stats import StepRecord
from .job import Job, Text

log = logging.getLogger(__name__)

BuildDecoder = Callable[[], Decoder]
# Done with a decoder before its first batch; it may open the models, and no other batch can go on then.
PrepareDecoder = Callable[[Decoder], None]


class Running:
    """The texts in the decoder's batch. Other threads may ask how many they are."""

    def __init__(self, decoder: Decoder, max_batch: int, prepare: PrepareDecoder | None):
        self.decoder = decoder
        self.max_batch = max_batch
        self._prepare = prepare or (lambda decoder: decoder.prepare(max_batch))
        self.texts: list[Text] = []
        self._batch = decoder.open_batch()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def counts(self) -> Counter[Job]:
        """How many each job has."""
        return Counter(text.job for text in self.texts)

    def join(self, text: Text) -> None:
        self.texts.append(text)
        self._batch.join(text.rest, text.stream)

    def step(self) -> StepRecord | None:
        return self._batch.step()

    def pause(self, job: Job) -> Text:
        """Take out that text of a job which is read again soonest; later it goes on with the tokens it would have."""
        of_job = [text for text in self.texts if text.job is job]
        text = min(of_job, key=lambda text: len(text.request.prompt_ids) + len(text.stream.token_ids))
        self._batch.leave(text.stream)
        self.texts.remove(text)
        return text

    def drop(self, job: Job) -> None:
        """Take out all texts of a job, ended or not."""
        dropped = [text for text in self.texts if text.job is job]
        self.texts = [text for text in self.texts if text.job is not job]
        for text in dropped:
            if not text.stream.has_ended:
                self._batch.leave(text.stream)

    def take_ended(self) -> list[Text]:
        """Take out the texts that have come to their ends."""
        ended = [text for text in self.texts if text.stream.finish_reason is not None]
        self.texts = [text for text in self.texts if text.stream.finish_reason is None]
        return ended

    def errors(self) -> dict[Job, Exception]:
        """Of each job that has failed, that of its first text which has."""
        return {text.job: text.stream.error for text in reversed(self.texts) if text.stream.error is not None}

    def forget(self) -> list[Job]:
        """The jobs that have texts here, which are given up as they are: the batch has failed, or ends."""
        jobs, self.texts = [*self.counts], []
        return jobs

    def begin_anew(self) -> None:
        """With an empty batch."""
        self._batch = self.decoder.open_batch()

    def change_decoder(self, build: BuildDecoder) -> list[Text]:
        """Go over to another decoder, if it can be built; the texts that are to join again, each of which goes on with
        the tokens that it would have had."""
        try:
            decoder = build()
        except InputError as error:
            log.error("decoding goes on as it was, for what was read anew is refused: %s", error)
            return []
        texts, self.texts = self.texts, []
        for text in texts:
            self._batch.leave(text.stream)
        try:
            self._prepare(decoder)
            self.decoder, self._batch = decoder, decoder.open_batch()
            log.warning("decoding goes on with what was read anew")
        except Exception:  # whatever it is, texts are being decoded that it must not end
            log.exception("decoding goes on as it was, for what was read anew cannot begin")
            self.begin_anew()
        return texts
