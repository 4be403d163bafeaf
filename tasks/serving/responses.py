"""Answers as they go out: whole or as a stream of server-sent events, cut at stop strings, and errors in OpenAI's format."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from tasks.core.errors import UserError
from tasks.serving.engine import Chunk, Engine
from tasks.serving.protocol import Generation, RequestError
from tasks.serving.response_formats import ResponseFormat, token_usage
from tasks.serving.stop_strings import StopBuffer

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody is left to read."""


def error_response(error: RequestError) -> JSONResponse:
    """The answer to a request that is refused."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.status)
    return JSONResponse(error.body(), error.status, headers)


def engine_unavailable(error: UserError) -> RequestError:
    """What is told where the engine gives no answer, as while its process is started again."""
    return RequestError(str(error), code="no_answer", status=503)


async def respond(
    engine: Engine,
    format_: ResponseFormat,
    wanted: Generation,
    prompt: list[int],
    request: Request,
    param: str,
) -> Response:
    """Have a prompt answered, which stood under the request's key `param`.

    Raises:
        RequestError: the prompt leaves no room for an answer.
        UserError: the engine gives none.
    """
    room = engine.model.context - len(prompt)
    if room < 1:
        message = f"the prompt has {len(prompt)} tokens; this model reads {engine.model.context}, its answer included"
        raise RequestError(message, param, "context_length_exceeded")
    chunks = _cut_at_stop_strings(engine.stream(prompt, wanted.sampling(room)), wanted.stop or [])
    if wanted.stream:
        return EventStream(_events(chunks, format_, wanted, len(prompt)), media_type="text/event-stream")
    text, last = "", Chunk("", 0)
    async with aclosing(chunks):
        async for last in chunks:
            text += last.text
            if await request.is_disconnected():  # the engine is freed
                return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(format_.response(text, last.finish_reason or "stop", token_usage(len(prompt), last.tokens)))


class EventStream(StreamingResponse):
    """A stream that begins when there is something to say: where the engine gives no answer, that is its status."""

    async def stream_response(self, send: Send) -> None:
        events = aiter(self.body_iterator)
        try:
            first = await anext(events)
        except UserError as error:
            refused = error_response(engine_unavailable(error))
            await send({"type": "http.response.start", "status": refused.status_code, "headers": refused.raw_headers})
            await send({"type": "http.response.body", "body": refused.body})
            return
        self.body_iterator = _joined(first, events)
        await super().stream_response(send)


async def _joined(first: Any, others: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for one in others:
        yield one


async def _cut_at_stop_strings(chunks: AsyncGenerator[Chunk, None], stops: list[str]) -> AsyncGenerator[Chunk, None]:
    """The chunks up to the first stop string; the last one bears why the answer ended."""
    buffer = StopBuffer(stops)
    async with aclosing(chunks):
        async for chunk in chunks:
            text = buffer.feed(chunk.text)
            if buffer.stopped:
                yield Chunk(text, chunk.tokens, "stop")
                return
            yield Chunk(text + (buffer.flush() if chunk.finish_reason else ""), chunk.tokens, chunk.finish_reason)


async def _events(
    chunks: AsyncGenerator[Chunk, None],
    format_: ResponseFormat,
    wanted: Generation,
    prompt_tokens: int,
) -> AsyncIterator[str]:
    tokens = 0
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                if not tokens and (first := format_.first_chunk()):
                    yield _event(first)
                tokens = chunk.tokens
                if chunk.text or chunk.finish_reason:
                    yield _event(format_.chunk(chunk.text, chunk.finish_reason))
    except UserError as error:
        if not tokens:
            raise
        yield _event(engine_unavailable(error).body())
        return
    if wanted.stream_options and wanted.stream_options.include_usage:
        yield _event(format_.usage(token_usage(prompt_tokens, tokens)))
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
