"""Batching as the user asks for it: the decorator, what it says about a function, and what is told of each run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])
_POLICY = "__batch_policy__"


@dataclass(frozen=True)
class BatchPolicy:
    """How the requests of one function are batched.

    max_rows: a run is given no more rows, but for a single request that has more.
    queue_rows: no more rows wait; further requests are turned away.
    join: makes one value of a list of values; by default along the first axis, see `rows`.
    split: takes the function's answer and the rows of each value, and gives a list of one answer for each.
    gather: under load, answered clients may be given the moment that they need to come back; see `gathering`.
    """

    max_rows: int = 32
    queue_rows: int = 128
    join: Callable[[list[Any]], Any] | None = None
    split: Callable[[Any, list[int]], Sequence[Any]] | None = None
    gather: bool = True

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise ValueError(f"max_rows is {self.max_rows}; expected at least 1.")
        if self.queue_rows < 1:
            raise ValueError(f"queue_rows is {self.queue_rows}; expected at least 1.")


@dataclass(frozen=True)
class BatchRecord:
    """One run of the model: its size, why it was started with these requests, and two times.

    reason: `idle`, the model had nothing to do; `drained`, nothing else waited; `full`, the next would not have fitted;
    `unlike`, those that wait cannot be joined with these; `gathered`, clients that had just been answered were given
    the time to come back; `retry`, a part of a batch that failed; `apart`, joining is suspended, because it failed for
    everything it was tried with.
    waited_seconds: how long the request waited that waited longest.
    """

    rows: int
    requests: int
    reason: str
    waited_seconds: float
    ran_seconds: float


@overload
def batched(function: Function) -> Function: ...
@overload
def batched(
    *,
    max_rows: int = 32,
    queue_rows: int | None = None,
    join: Callable[[list[Any]], Any] | None = None,
    split: Callable[[Any, list[int]], Sequence[Any]] | None = None,
    gather: bool = True,
) -> Callable[[Function], Function]: ...
def batched(
    function: Function | None = None,
    *,
    max_rows: int = 32,
    queue_rows: int | None = None,
    join: Callable[[list[Any]], Any] | None = None,
    split: Callable[[Any, list[int]], Sequence[Any]] | None = None,
    gather: bool = True,
) -> Function | Callable[[Function], Function]:
    """Let `predict_fn` be given the rows of several requests at once. Called directly it does what it did before.

    max_rows: the most rows of one call. queue_rows: the most that may wait, by default four times as many. join and
    split: how values become one and an answer becomes many, where rows of arrays, tensors, lists and dicts do not fit.
    gather=False: the model is never idle while a request waits. Raises ValueError for a number below 1.
    """
    policy = BatchPolicy(max_rows, 4 * max_rows if queue_rows is None else queue_rows, join, split, gather)

    def mark(function: Function) -> Function:
        setattr(function, _POLICY, policy)
        return function

    return mark if function is None else mark(function)


def find_policy(function: Any) -> BatchPolicy | None:
    """What `batched` said about a function or a bound method."""
    policy = getattr(function, _POLICY, None)
    return policy if isinstance(policy, BatchPolicy) else None
