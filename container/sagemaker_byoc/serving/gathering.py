"""Whether the next batch should wait for those who have just been answered: measured, never assumed.

Clients that send their next request when they have their answer fall into two halves that take turns, and each run
pays the model's fixed cost for half of them. Where all of them would come back in clearly less than that cost, one run
for all is faster for everyone. A single client, or clients that do not come back, are never waited for.
"""

from dataclasses import dataclass

_ENOUGH = 0.9  # of those who were answered; the slowest hold nobody up
_WORTH = 0.85  # of the fixed cost of a run; strangers who come by chance never fill the next run as soon as that
_PATIENCE = 4.0  # times the usual time to come back, and never more than the fixed cost
_TICK = 0.002  # seconds that any thread may have to wait for its turn
_TRY_EVERY = 64  # runs, while the fixed cost is not known


@dataclass
class _Size:
    """What runs of about one size took: the fastest of late, for a busy machine only ever adds."""

    rows: int
    seconds: float
    runs: int = 1


class Gathering:
    """What one batcher has learned about its model and its clients."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}
        self._last_run = 0.0
        self._runs = 0
        self._answered = 0
        self._answered_at = 0.0
        self._returned = 0
        self._seconds = 0.0  # that answered clients need to come back, and how many of them did in that time
        self._clients = 0.0
        self._samples = 0
        self._needed = 3

    @property
    def knows(self) -> bool:
        """Whether several answered clients have been seen to come back often enough."""
        return self._answered > 1 and self._samples >= self._needed

    def ran(self, rows: int, seconds: float) -> None:
        """A run of so many rows took so long."""
        self._runs += 1
        self._last_run = seconds
        size = self._sizes.get(rows.bit_length())
        if size is None:
            self._sizes[rows.bit_length()] = _Size(rows, seconds)
        elif seconds <= size.seconds * 1.02:
            size.rows, size.seconds, size.runs = rows, seconds, size.runs + 1
        else:
            size.seconds, size.runs = size.seconds * 1.02, size.runs + 1

    def answered(self, requests: int, now: float) -> None:
        """So many requests got their answers."""
        self._answered, self._answered_at, self._returned = requests, now, 0

    def arrived(self, now: float) -> None:
        """A request came."""
        self._returned += 1
        if self._answered > 1 and self._returned == self._enough():
            share = 0.2 if self._samples else 1.0
            self._seconds += share * (max(0.0, now - self._answered_at) - self._seconds)
            self._clients += share * (self._returned - self._clients)
            self._samples += 1

    def worth_waiting(self, now: float, queued: int = 0) -> tuple[int, float]:
        """How many more requests to wait for, where so many wait already, and how many seconds at most; (0, 0.0) for
        not at all.

        What counts is how long all would need who would then be answered together: the more, the longer.
        """
        missing = self._enough() - self._returned
        if missing <= 0 or not self.knows:
            return 0, 0.0
        fixed, each = self._fixed_seconds(), self._seconds / self._clients
        together = self._answered + max(0, queued - self._returned)
        if each * together > _WORTH * fixed:
            return 0, 0.0
        seconds = self._answered_at + min(fixed, _PATIENCE * each * self._answered + _TICK) - now
        return (missing, seconds) if seconds > 0 else (0, 0.0)

    def waited(self, came: bool) -> None:
        """They came; or they did not, and must be seen to come back more often before they are waited for again."""
        if came:
            self._needed = 3
        else:
            self._samples, self._needed = 0, min(2 * self._needed, 1000)

    def _enough(self) -> int:
        return -int(-_ENOUGH * self._answered // 1) if self._answered > 1 else self._answered

    def _fixed_seconds(self) -> float:
        """The part of a run's time that does not grow with its rows; at most the last run's."""
        known = sorted((size for size in self._sizes.values() if size.runs > 1), key=lambda size: size.rows)
        if len(known) < 2 or known[-1].rows < 1.5 * known[0].rows:
            return self._last_run if self._runs % _TRY_EVERY == 0 else 0.0
        few, many = known[0], known[-1]
        each = max(0.0, (many.seconds - few.seconds) / (many.rows - few.rows))
        return min(max(0.0, few.seconds - each * few.rows), self._last_run)
