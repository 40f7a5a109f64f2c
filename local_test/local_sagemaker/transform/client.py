"""Asking a container about a mini-batch, again where that may help, over a connection that is made anew when lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from local_sagemaker.transform.connection import Answer, Connection, Follow, Following, NoAnswerError, StaleError, Take
from local_sagemaker.transform.splitting import Body

TOLD_BYTES = 200  # of an answer that says what is wrong
RETRIED = frozenset({408, 429, *range(500, 600)})


class InvocationFailed(Exception):
    """A request did not succeed, however often it was sent.

    Attributes:
        is_clients: whether the container blames the request.
    """

    def __init__(self, what: str, is_clients: bool) -> None:
        self.is_clients = is_clients
        super().__init__(what)


@dataclass(frozen=True)
class Caller:
    """How a container is asked.

    Attributes:
        address: host and port.
        headers: of every request, Content-Type and Accept among them.
        timeout_seconds: for one attempt.
        retries: further attempts after a failed one.
        pause_seconds: before the second attempt; twice as long before each further one.
        has_ended: asked after a failed attempt, says how the container ended, else None.
    """

    address: tuple[str, int]
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 600.0
    retries: int = 3
    pause_seconds: float = 0.5
    has_ended: Callable[[], str | None] = field(default=lambda: None)

    def head(self) -> bytes:
        """What every request begins with."""
        host, port = self.address
        lines = ["POST /invocations HTTP/1.1", f"Host: {host}:{port}", *(f"{k}: {v}" for k, v in self.headers)]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


class Wire:
    """A connection that is made again when it was lost; for one request at a time."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._head = caller.head()
        self._connection: Connection | None = None
        self._body: Body = b""
        self._failed = 0

    async def ask(
        self,
        body: Body,
        *,
        take: Take | None = None,
        anew: Callable[[], object] | None = None,
        follow: Follow | None = None,
    ) -> Answer:
        """Send a mini-batch until it succeeds or the retries are used up.

        Args:
            body: the mini-batch.
            take: gets a good answer's body piece by piece, if it is not to be kept in memory.
            anew: called before each attempt: the pieces so far are void.
            follow: gets a good answer as soon as it is there and may give the next mini-batch, for which everything
                begins again; where it gives None, the answer is returned.

        Raises:
            InvocationFailed: if it, or the last one that followed it, does not succeed.
        """
        caller = self._caller
        self._body, self._failed = body, 0

        while True:
            if anew is not None:
                anew()
            try:
                answer = await self._attempt(take, follow and self._noting(follow))
            except NoAnswerError as error:
                ended = await asyncio.to_thread(caller.has_ended)
                if ended:
                    raise InvocationFailed(ended, is_clients=False) from None
                said = str(error)
            else:
                if answer.ok:
                    return answer
                said = f"the container answered with status {answer.status}{_told(answer)}"
                if answer.status not in RETRIED:
                    raise InvocationFailed(said, is_clients=True)
            await self._pause(said)

    def _noting(self, follow: Follow) -> Follow:
        """The same, which lets this object know of each mini-batch that follows."""

        def go_on(answer: Answer) -> Following | None:
            following = follow(answer)
            if following is not None:
                self._body, self._failed = following.body, 0
            return following

        return go_on

    async def _pause(self, said: str) -> None:
        """Wait before the next attempt, if there is one."""
        retries = self._caller.retries
        if self._failed == retries:
            times = "once" if retries == 0 else f"{retries + 1} times"
            raise InvocationFailed(f"{said} (it was asked {times})", is_clients=False)
        await asyncio.sleep(self._caller.pause_seconds * 2**self._failed)
        self._failed += 1

    async def sent(self) -> None:
        """Wait until the system has the request that is on its way, if one is."""
        if self._connection is not None:
            await self._connection.sent()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _attempt(self, take: Take | None, follow: Follow | None) -> Answer:
        try:
            while True:
                connection = self._connection
                if connection is None or connection.is_closed:
                    connection = await self._connect()
                with suppress(StaleError):
                    return await connection.ask(self._body, take, follow)
                if not connection.has_answered:
                    raise NoAnswerError("the container closed the connection without an answer")  # noqa: TRY301
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> Connection:
        loop, seconds = asyncio.get_running_loop(), self._caller.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._head, seconds), *self._caller.address
                )
        except TimeoutError:
            raise NoAnswerError(f"the container took no connection within {seconds:g} s") from None
        except OSError as error:
            raise NoAnswerError(f"the container cannot be reached: {error.strerror or error}") from error
        self._connection = connection
        return connection


def _told(answer: Answer) -> str:
    text = " ".join(answer.body[: TOLD_BYTES * 4].decode(errors="replace").split())
    return f": {text[:TOLD_BYTES]}" if text else ""
