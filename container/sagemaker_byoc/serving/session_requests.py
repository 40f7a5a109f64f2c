"""How requests open, use and close sessions, around whatever answers them.

Source: "Stateful sessions with Amazon SageMaker AI models" of the developer guide, and the library
model-hosting-container-standards for the bodies `{"requestType": "NEW_SESSION"}` and `{"requestType": "CLOSE"}`.
"""

import json
from dataclasses import replace
from typing import Any

from sagemaker_byoc.errors import InvalidSession
from sagemaker_byoc.serving.answers import JSON
from sagemaker_byoc.serving.exchange import Answer, Request
from sagemaker_byoc.serving.sessions import Lock, Session, Sessions
from sagemaker_byoc.serving.streams import Watched

SESSION_ID = "X-Amzn-SageMaker-Session-Id"
NEW_SESSION_ID = "X-Amzn-SageMaker-New-Session-Id"
CLOSED_SESSION_ID = "X-Amzn-SageMaker-Closed-Session-Id"
NEW_SESSION = "NEW_SESSION"
CLOSE = "CLOSE"
_LONGEST_ORDER = 256  # bytes; a body that only opens or closes a session is short


class WithSessions:
    """A model, or many, whose requests may belong to sessions."""

    def __init__(self, model: Any, sessions: Sessions) -> None:
        self._model = model
        self._sessions = sessions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def invoke(self, request: Request) -> Answer:
        """One request, one answer, with the headers that its session asks for.

        Raises InvalidSession, NotEnoughMemory and DeadlineExceeded, and what the model raises.
        """
        named = request.headers.get(SESSION_ID, "")
        order = _order_in(request)
        if not named and not order:
            answer: Answer = self._model.invoke(request)
            return answer
        if named in ("", NEW_SESSION) and order == CLOSE:
            raise InvalidSession(f"there is no session to close; name it in {SESSION_ID}.")
        if named in ("", NEW_SESSION):
            return self._open(request, order)
        lock = self._sessions.take(named, request.deadline)
        if order == NEW_SESSION:
            self._sessions.give_back(lock)
            return self._open(request, order)
        if order == CLOSE:
            lock.session.close()
            self._sessions.give_back(lock)
            return _ordered({"closedSessionId": named}, (CLOSED_SESSION_ID, named))
        return self._run(request, lock)

    def _open(self, request: Request, order: str) -> Answer:
        session = self._sessions.open()
        named = f"{session.id}; Expires={_told(session)}"
        headers = ((SESSION_ID, named), (NEW_SESSION_ID, named))
        if order == NEW_SESSION:
            return _ordered({"sessionId": session.id, "expires": _told(session)}, *headers)
        lock = self._sessions.take(session.id, request.deadline)
        try:
            return self._run(request, lock, headers)
        except BaseException:
            self._sessions.discard(session)  # its caller does not get to know the id
            raise

    def _run(self, request: Request, lock: Lock, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        streams = False
        try:
            answer: Answer = self._model.invoke(replace(request, session=lock.session))
            if lock.session.is_closed:
                headers = (*headers, (CLOSED_SESSION_ID, lock.session.id))
            if not isinstance(answer.body, bytes):
                streams = True  # and what makes the pieces may still use the session
                answer = replace(answer, body=Watched(answer.body, lambda _: self._sessions.give_back(lock)))
            return replace(answer, headers=(*answer.headers, *headers))
        finally:
            if not streams:
                self._sessions.give_back(lock)


def _ordered(told: dict[str, str], *headers: tuple[str, str]) -> Answer:
    return Answer(json.dumps(told).encode() + b"\n", JSON, 200, headers)


def _told(session: Session) -> str:
    return session.expires.strftime("%Y-%m-%dT%H:%M:%SZ")


def _order_in(request: Request) -> str:
    """What a body that is about the session alone asks for, else an empty string."""
    if len(request.body) > _LONGEST_ORDER or b'"requestType"' not in request.body:
        return ""
    try:
        document = json.loads(request.body)
    except ValueError:
        return ""
    order = document.get("requestType") if isinstance(document, dict) else None
    return order if order in (NEW_SESSION, CLOSE) else ""
