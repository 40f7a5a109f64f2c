"""Answers that leave piece by piece, as an async iterator makes them: `streams` for an event loop."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from sagemaker_byoc.errors import HandlerError
from sagemaker_byoc.serving import codecs, streams
from sagemaker_byoc.serving.exchange import AsyncAnswer
from sagemaker_byoc.serving.handlers import Handler


async def stream_pieces(pieces: AsyncIterator[Any], content_type: str, handler: Handler) -> AsyncAnswer:
    """Text or bytes as they come. Raises HandlerError for the first piece; later errors are logged and raised."""
    explained = _explained(pieces, handler)
    first = [streams.as_bytes(piece, handler) async for piece in _first(explained)]
    return AsyncAnswer(_encoded(first, explained, lambda piece: streams.as_bytes(piece, handler)), content_type)


async def stream_values(values: AsyncIterator[Any], accept: str, handler: Handler) -> AsyncAnswer:
    """What a predict_fn yields: events, text, bytes, or lines of JSON."""
    explained = _explained(values, handler)
    first = [value async for value in _first(explained)]
    if any(media_type.name == streams.EVENT_STREAM for media_type in codecs.parse_accept(accept)):
        return AsyncAnswer(_encoded(first, explained, streams.event), streams.EVENT_STREAM)
    return AsyncAnswer(_encoded(first, explained, streams.line), streams.plain_type(first))


async def _first(values: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
    """One value, if there is one; the generator is not closed."""
    try:
        yield await anext(values)
    except StopAsyncIteration:
        return


async def _encoded(
    first: list[Any], rest: AsyncGenerator[Any, None], encode: Callable[[Any], bytes]
) -> AsyncIterator[bytes]:
    try:
        for value in first:
            yield encode(value)
        async for value in rest:
            yield encode(value)
    finally:
        await rest.aclose()


async def _explained(values: AsyncIterator[Any], handler: Handler) -> AsyncGenerator[Any, None]:
    """What the user's iterator yields; what it raises is explained as an error of the function that made it."""
    try:
        while True:
            try:
                value = await anext(values)
            except StopAsyncIteration:
                return
            except HandlerError:
                raise
            except (Exception, SystemExit) as error:
                raise handler.explain(error) from error
            yield value
    finally:
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
