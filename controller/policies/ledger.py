"""The guard's account of tokens and time: whether speculation has paid so far.

A speculative step gains the tokens it commits less those that plain decoding would have committed in its time. A step
in which the drafter reads more than what was committed last, prompts above all, counts over the next steps, a share of
1 / SPREAD_STEPS in each: it is paid once for all the tokens that follow. The gains are summed from one side, a CUSUM
test (Page, Biometrika 41, 1954): `credit` takes every gain but never exceeds CREDIT, and where it falls to nothing
speculation ends. What was lost is then earned back: the next probe, which may lose PROBE tokens, waits for
1 / PROBE_SHARE plain tokens per token lost, twice as long after each further failure and at most MAX_PATIENCE times.

Whatever the steps take, in n tokens of a bucket at most CREDIT + PROBE + PROBE_SHARE * n are lost against plain
decoding, apart from the steps that go below nothing, what has yet to be counted and a catch-up not earned back yet.
For a pair that always loses it is under 2 % of 5000 tokens, and in the long run PROBE_SHARE / MAX_PATIENCE. Where
speculation pays, the guard costs one plain step in CHECK_STEPS, to know what plain decoding takes.

A policy that drafted at RARELY or fewer of the last ASKED_STEPS steps at which it was asked is left alone for a step
behind one that drafts nothing, and for twice as many after each further one, MOST_DOUBLINGS times: to decide takes time
too. One that drafts more often than that is asked at every step.
"""

import logging
from collections import deque
from math import sqrt
from statistics import median

# Tokens of a text alone: a step's gain is noisy by a token or two, and what pays must not end by chance. The mean gain
# of a batch is less noisy by the root of its size, by which both are divided.
CREDIT, PROBE = 32.0, 8.0
PROBE_SHARE = 0.02  # tokens that probes may lose per plain token
MAX_PATIENCE = 4
FIRST_CHECK_STEPS = 16  # until the first plain step amid speculation; the distance doubles up to the next
CHECK_STEPS = 256
PLAIN_STEPS = 7  # the last plain steps, whose median is the cost of plain decoding
ASKED_STEPS, RARELY = 64, 3
MOST_DOUBLINGS = 5
SPREAD_STEPS = 64
RECENT_STEPS = 32  # over which the running rate of speculation forgets

log = logging.getLogger(__name__)


class Ledger:
    """The account of one bucket. Tokens are per request; costs are in units of the plain step's price."""

    def __init__(self, name: str, batch: int, *, has_price: bool):
        self.speculating = True
        # Without a price the first step that counts is plain: nothing can be said before.
        self.steps_to_check = FIRST_CHECK_STEPS if has_price else 0
        self.resting = 0  # plain steps before the policy is asked again
        self._idle = 0  # speculative steps in a row that drafted nothing
        self._drafted: deque[bool] = deque(maxlen=ASKED_STEPS)  # of the last speculative steps
        self._name = name
        self._next_check = 2 * FIRST_CHECK_STEPS if has_price else FIRST_CHECK_STEPS
        self._plain_costs = deque([1.0] if has_price else [], maxlen=PLAIN_STEPS)
        self._recent_tokens = self._recent_cost = 0.0
        self._spread_tokens = self._spread_cost = 0.0  # of steps that do not count in full yet
        self._most_credit, self._probe = CREDIT / sqrt(batch), PROBE / sqrt(batch)
        self._credit = self._most_credit
        self._debt = 0.0  # tokens lost since the last wait
        self._defeats = 0  # times switched off since the credit was last full
        self._plain_steps = self._measured_steps = 0  # since speculation was switched off
        self._catches_up = False  # the drafter has yet to read what was decoded without it

    @property
    def plain_cost(self) -> float:
        return median(self._plain_costs)

    def is_asked_within(self, steps: int) -> bool:
        """Whether the policy may be asked at this step or one of the `steps` behind it."""
        if self.speculating:
            return self.resting <= steps
        return self._measured_steps < PLAIN_STEPS or self._plain_steps + steps >= self._wait

    def add_plain(self, cost: float | None) -> None:
        """A plain step; None where its cost is not that of plain decoding."""
        self.resting = max(0, self.resting - 1)
        if cost is not None:
            self._plain_costs.append(cost)
            self._measured_steps += 1
        if self.speculating:
            if cost is not None:
                self.steps_to_check = self._next_check
                self._next_check = min(2 * self._next_check, CHECK_STEPS)
            return
        self._plain_steps += 1
        if cost is not None and self._measured_steps == PLAIN_STEPS and self._defeats == 1 and self._paid_after_all():
            self._switch_on()
        elif self._plain_steps >= self._wait:
            self._debt = 0.0
            self._switch_on()

    @property
    def _wait(self) -> float:
        """Plain steps from the end of speculation to the next probe."""
        return self._debt / PROBE_SHARE * min(2 ** (self._defeats - 1), MAX_PATIENCE)

    def add_speculative(self, tokens: float, cost: float | None, *, drafted: bool, spread: bool) -> None:
        """A step that committed `tokens`, which counts over the next ones if `spread`, and not at all where its cost is
        None; it still brings the drafter up to date."""
        self._idle = 0 if drafted else self._idle + 1
        self._drafted.append(drafted)
        if self._idle and len(self._drafted) == ASKED_STEPS and sum(self._drafted) <= RARELY:
            self.resting = 2 ** min(self._idle - 1, MOST_DOUBLINGS)
        catches_up = self._catches_up and drafted
        self._catches_up = self._catches_up and not drafted
        if cost is None:
            return
        self.steps_to_check -= 1
        if catches_up:
            self._debt += max(0.0, cost / self.plain_cost - tokens)  # the price of switching, not of speculation
            return
        if spread:
            self._spread_tokens, self._spread_cost = self._spread_tokens + tokens, self._spread_cost + cost
            tokens = cost = 0.0
        tokens += self._spread_tokens / SPREAD_STEPS
        cost += self._spread_cost / SPREAD_STEPS
        left, decay = 1.0 - 1.0 / SPREAD_STEPS, 1.0 - 1.0 / RECENT_STEPS
        self._spread_tokens, self._spread_cost = self._spread_tokens * left, self._spread_cost * left
        self._recent_tokens = self._recent_tokens * decay + tokens
        self._recent_cost = self._recent_cost * decay + cost
        self._credit = min(self._credit + tokens - cost / self.plain_cost, self._most_credit)
        if self._credit == self._most_credit:
            self._defeats = 0
        elif self._credit <= 0:
            self._switch_off()

    def _paid_after_all(self) -> bool:
        """Whether the last speculative steps paid compared with the plain ones of the same minute.

        Amid speculation plain steps are rare, so a machine that has just become slower first looks like a loss.
        """
        return self._recent_tokens * self.plain_cost > self._recent_cost

    def _switch_off(self) -> None:
        log.info("speculation off at %s: it is slower than plain decoding", self._name)
        self.speculating = False
        self._defeats += 1
        self._debt += self._probe - self._credit + max(0.0, self._spread_cost / self.plain_cost - self._spread_tokens)
        self._spread_tokens = self._spread_cost = 0.0
        self._plain_steps = self._measured_steps = 0

    def _switch_on(self) -> None:
        log.info("speculation on again at %s, on probation", self._name)
        self.speculating = True
        self._credit = self._probe
        self._catches_up = True
