"""Every error the runtime raises on purpose, with its exit code or HTTP status.

ByocError
├── PlatformInputError      what the platform or the caller of the image gave cannot be read        exit 64
├── HostLostError           another host of the job is gone, or never came                           exit 69
├── Stopped                 the platform stopped the job before the script had started              exit 128 + signal
├── UserCodeError           the user's code is missing or cannot be used                            exit 66
│   └── HandlerError        a function of inference.py raised                                       HTTP 500
└── RequestError            a request that cannot be answered                                       HTTP 400
    ├── MalformedBody                                                                               HTTP 400
    ├── TooLarge            the body is larger than BYOC_MAX_REQUEST_MB                             HTTP 413
    ├── UnsupportedContentType                                                                      HTTP 415
    ├── NotAcceptable                                                                               HTTP 406
    ├── DeadlineExceeded                                                                            HTTP 504
    ├── ClientGone                                                                                  HTTP 499
    ├── ModelNotFound       no model of that name is loaded                                          HTTP 404
    ├── ModelAlreadyLoaded                                                                          HTTP 409
    ├── NotEnoughMemory     for a model, for a request to it, or for a session's data                HTTP 507
    ├── InvalidSession      the session is unknown, over, or no session's id                         HTTP 400
    └── ModelNotReady                                                                               HTTP 503
        └── Overloaded                                                                              HTTP 503

Anything else that escapes is a bug of ours and exits with 70.
"""

EXIT_BUG = 70


class ByocError(Exception):
    """Base of the tree; `exit_code` ends the process, `status` answers a request."""

    exit_code = EXIT_BUG
    status = 500


class PlatformInputError(ByocError):
    """A configuration file or environment variable is unreadable or wrong."""

    exit_code = 64


class HostLostError(ByocError):
    """Another host of the job cannot be reached, or can no more."""

    exit_code = 69


class Stopped(ByocError):
    """A signal asked the job to stop while it was still being prepared."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number} before the script had started")
        self.exit_code = 128 + number


class UserCodeError(ByocError):
    """The user's script or module is missing, or lacks what it must define."""

    exit_code = 66


class HandlerError(UserCodeError):
    """A function of the user's inference.py failed; the message is fit for the caller, the trace is in the log."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class RequestError(ByocError):
    """A request that cannot be answered, through no fault of the model."""

    status = 400


class MalformedBody(RequestError):
    """The request's body is not what its content type says."""


class TooLarge(RequestError):
    """The request's body is larger than this container takes."""

    status = 413


def too_large(most: int) -> TooLarge:
    """The error in nginx's words; `most` is in MB."""
    return TooLarge(f"the request body is larger than {most} MB (BYOC_MAX_REQUEST_MB)")


class UnsupportedContentType(RequestError):
    """No codec reads this content type."""

    status = 415


class NotAcceptable(RequestError):
    """No codec writes what the Accept header asks for."""

    status = 406


class DeadlineExceeded(RequestError):
    """The request's time ran out while it waited for the model; the model never saw it, or its answer came too late."""

    status = 504


class ClientGone(RequestError):
    """The client closed its connection while the request waited for the model, which never saw it."""

    status = 499


class ModelNotFound(RequestError):
    """No model of that name is loaded."""

    status = 404


class ModelAlreadyLoaded(RequestError):
    """A model of that name is loaded."""

    status = 409


class NotEnoughMemory(RequestError):
    """Memory does not suffice for a model, for a request to one, or for what a session is to keep."""

    status = 507


class InvalidSession(RequestError):
    """The request names a session that is unknown, over, or none at all."""


class ModelNotReady(RequestError):
    """The model is still loading, or loading failed."""

    status = 503


class Overloaded(ModelNotReady):
    """Every thread is busy and the queue of waiting requests is full."""
