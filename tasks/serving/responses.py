"""Answers as they go out: whole or as a stream of server-sent events, cut at stop strings, and errors in OpenAI's form."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from tasks.core.errors import UserError
from tasks.serving.engine import Engine, Piece
from tasks.serving.protocol import Generation, RequestError
from tasks.serving.response_formats import ChatForm, TextForm, usage_of
from tasks.serving.stop_strings import StopBuffer

LEFT = 499
"""Status of an answer that nobody is left to read."""


def refusal(error: RequestError) -> JSONResponse:
    """The answer to a request that is refused."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.status)
    return JSONResponse(error.body(), error.status, headers)


def no_answer(error: UserError) -> RequestError:
    """What is told where the engine gives no answer, as while its process is started again."""
    return RequestError(str(error), code="no_answer", status=503)


async def respond(
    engine: Engine, form: ChatForm | TextForm, wanted: Generation, prompt: list[int], request: Request, param: str
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
    pieces = _stopped(engine.stream(prompt, wanted.sampling(room)), wanted.stop or [])
    if wanted.stream:
        return EventStream(_events(pieces, form, wanted, len(prompt)), media_type="text/event-stream")
    text, last = "", Piece("", 0)
    async with aclosing(pieces):
        async for last in pieces:
            text += last.text
            if await request.is_disconnected():  # the engine is freed
                return Response(status_code=LEFT)
    return JSONResponse(form.whole(text, last.finish or "stop", usage_of(len(prompt), last.tokens)))


class EventStream(StreamingResponse):
    """A stream that begins when there is something to say: where the engine gives no answer, that is its status."""

    async def stream_response(self, send: Send) -> None:
        events = aiter(self.body_iterator)
        try:
            first = await anext(events)
        except UserError as error:
            refused = refusal(no_answer(error))
            await send({"type": "http.response.start", "status": refused.status_code, "headers": refused.raw_headers})
            await send({"type": "http.response.body", "body": refused.body})
            return
        self.body_iterator = _joined(first, events)
        await super().stream_response(send)


async def _joined(first: Any, others: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for one in others:
        yield one


async def _stopped(pieces: AsyncGenerator[Piece, None], stops: list[str]) -> AsyncGenerator[Piece, None]:
    """The pieces up to the first stop string; the last one bears why the answer ended."""
    buffer = StopBuffer(stops)
    async with aclosing(pieces):
        async for piece in pieces:
            text = buffer.feed(piece.text)
            if buffer.stopped:
                yield Piece(text, piece.tokens, "stop")
                return
            yield Piece(text + (buffer.flush() if piece.finish else ""), piece.tokens, piece.finish)


async def _events(
    pieces: AsyncGenerator[Piece, None], form: ChatForm | TextForm, wanted: Generation, prompt_tokens: int
) -> AsyncIterator[str]:
    tokens = 0
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if not tokens and (first := form.first()):
                    yield _event(first)
                tokens = piece.tokens
                if piece.text or piece.finish:
                    yield _event(form.part(piece.text, piece.finish))
    except UserError as error:
        if not tokens:
            raise
        yield _event(no_answer(error).body())
        return
    if wanted.stream_options and wanted.stream_options.include_usage:
        yield _event(form.usage(usage_of(prompt_tokens, tokens)))
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
