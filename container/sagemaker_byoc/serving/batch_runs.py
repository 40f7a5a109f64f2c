"""One batch through the model: joined, run and split again; when that fails, in parts until the guilty are alone."""

import logging
import time
from collections.abc import Callable, Hashable
from typing import Any

from sagemaker_byoc.errors import ClientGone, DeadlineExceeded
from sagemaker_byoc.serving import rows
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord

# After so many batches in a row in which nothing went well together, so many requests run alone.
_STRIKES, _ALONE = 3, 1000
# Fewer requests say too little about whether requests can go together at all.
_TELLING = 4
log = logging.getLogger(__name__)


class Item:
    """One request on its way through the batcher."""

    __slots__ = (
        *("data", "deadline", "done", "error", "follower", "future", "is_alive", "kind", "result", "rows", "since"),
        "wake",
    )

    def __init__(self, data: Any, deadline: float, is_alive: Callable[[], bool] | None) -> None:
        self.data = data
        self.deadline = deadline
        self.is_alive = is_alive
        self.since = time.monotonic()
        self.kind: Hashable | None = None
        self.rows = 1
        self.wake: Any = None
        self.follower: Any = None
        self.future: Any = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> Any:
        """The answer. Raises what the request failed with."""
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            self.error = None  # the trace holds this frame, which would hold the error


class BatchRuns:
    """The runs of one model. deliver gets requests as soon as their outcome is known, in the thread of the model."""

    def __init__(
        self,
        predict: Callable[[Any], Any],
        policy: BatchPolicy,
        observe: Callable[[BatchRecord], None],
        deliver: Callable[[list[Item]], None],
    ) -> None:
        self._predict = predict
        self._policy = policy
        self._custom = policy.join is not None or policy.split is not None
        self._observe = observe
        self._deliver = deliver
        self._strikes = 0
        self._alone = 0
        self._broken = False
        self._told = False

    @property
    def suspended(self) -> bool:
        """Whether requests run alone for now, because together they failed again and again."""
        return self._alone > 0

    def drop_the_late(self, items: list[Item]) -> list[Item]:
        """The requests that somebody still waits for; the others get their error and never reach the model."""
        now = time.monotonic()
        kept: list[Item] = []
        dropped: list[Item] = []
        for item in items:
            if item.done:
                continue
            if now >= item.deadline:
                item.error = DeadlineExceeded(
                    f"the request waited {now - item.since:.1f} s for the model, its whole time"
                )
            elif item.is_alive is not None and not _is_alive(item.is_alive):
                item.error = ClientGone("the client closed the connection while its request waited for the model")
            (kept if item.error is None else dropped).append(item)
        if dropped:
            self._deliver(dropped)
        return kept

    def run(self, batch: list[Item], reason: str) -> None:
        """Run a batch and deliver an outcome for each of its requests.

        What fails together is halved and tried again. After twice the binary logarithm of the batch's size such tries,
        enough for one guilty request wherever it is, what is left runs alone: at worst each request once more.
        """
        if len(batch) == 1:
            self._learn(1, well_together=False, well_alone=self._attempt(batch, reason))
            return
        parts, halving = [batch], 2 * len(batch).bit_length()
        well_together = well_alone = False
        while parts:
            part = parts.pop()
            if part is not batch:
                part, reason = self.drop_the_late(part), "retry"
                if len(part) > 1:
                    halving -= 1
            if len(part) > 1 and halving < 0:
                parts += [[item] for item in reversed(part)]
            elif part and self._attempt(part, reason):
                well_together, well_alone = well_together or len(part) > 1, well_alone or len(part) == 1
            elif len(part) > 1:
                middle = (len(part) + 1) // 2
                parts += [part[middle:], part[:middle]]
        self._learn(len(batch), well_together, well_alone)

    def _attempt(self, part: list[Item], reason: str) -> bool:
        """Whether one run of the model went well. If so, or if the request is alone, its outcome is delivered."""
        return self._alone_went_well(part[0], reason) if len(part) == 1 else self._together_went_well(part, reason)

    def _alone_went_well(self, item: Item, reason: str) -> bool:
        started = time.monotonic()
        try:
            item.result = self._answers([item])[0] if self._custom else self._predict(item.data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to this request
            item.error = error
        went_well, ended = item.error is None, time.monotonic()
        self._deliver([item])
        self._observe(BatchRecord(item.rows, 1, reason, started - item.since, ended - started))
        return went_well

    def _together_went_well(self, part: list[Item], reason: str) -> bool:
        started = time.monotonic()
        answers: list[Any] = []
        try:
            answers = self._answers(part)
        except rows.CannotSplitError as error:
            self._tell_once(part, error)
        except BaseException as error:  # noqa: BLE001 - whose it is comes out when the parts are tried
            log.debug("%d requests failed together: %r", len(part), error)
        ended = time.monotonic()
        for item, answer in zip(part, answers, strict=False):
            item.result = answer
        if answers:
            self._deliver(part)
        size, waited = sum(item.rows for item in part), started - min(item.since for item in part)
        self._observe(BatchRecord(size, len(part), reason, waited, ended - started))
        return bool(answers)

    def _answers(self, part: list[Item]) -> list[Any]:
        policy, counts = self._policy, [item.rows for item in part]
        if policy.join is not None:
            data = policy.join([item.data for item in part])
        else:
            data = part[0].data if len(part) == 1 else rows.join([item.data for item in part])
        result = self._predict(data)
        if policy.split is not None:
            answers = list(policy.split(result, counts))
            if len(answers) != len(part):
                raise rows.CannotSplitError(f"{len(answers)} answers from its split; expected {len(part)}")
            return answers
        return [result] if len(part) == 1 and policy.join is None else rows.split(result, counts)

    def _learn(self, requests: int, well_together: bool, well_alone: bool) -> None:
        """Suspend joining where it only costs: each request would run several times instead of once."""
        if requests == 1:
            self._alone = 0 if self._broken and well_alone else max(0, self._alone - 1)
            self._broken = self._broken and self._alone > 0
            return
        self._strikes = 0 if well_together else self._strikes + (requests >= _TELLING)
        self._broken = not well_together and not well_alone
        if self._broken or self._strikes >= _STRIKES:
            self._strikes, self._alone = 0, _ALONE
            why = "all failed alone too" if self._broken else f"nothing went well together in {_STRIKES} batches"
            log.warning(
                "a batch of %d requests failed and %s: the next requests run one by one, %s.",
                requests,
                why,
                "until one succeeds" if self._broken else f"{_ALONE} of them",
            )

    def _tell_once(self, part: list[Item], error: rows.CannotSplitError) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "predict_fn was given %d requests with %d rows together and returned %s. Such requests run in smaller "
                "batches, at last one by one. Return one row for each row, in order, or give @batched a split.",
                len(part),
                sum(item.rows for item in part),
                error,
            )


def _is_alive(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except Exception:
        log.exception("whether a client is still there could not be found out")
        return True
