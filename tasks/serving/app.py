"""The routes: chat completions, completions, models and health, plain or as a stream of server-sent events."""

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from tasks.core.errors import UserError
from tasks.serving.engine import Engine, Piece
from tasks.serving.protocol import MAX_BODY_BYTES, ChatRequest, CompletionRequest, Generation, RequestError, parse
from tasks.serving.stops import StopBuffer


def make_app(engine: Engine, name: str) -> FastAPI:
    """The server of `engine`, whose model is called `name`."""
    app = FastAPI(title="Textmill", openapi_url=None)
    about = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "textmill"}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [about]}

    @app.get("/v1/models/{model}")
    async def one_model(model: str) -> dict[str, Any]:
        _require_model(model, name)
        return about

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        wanted = parse(ChatRequest, await _body(request))
        _require_model(wanted.model, name)
        if not engine.model.chats:
            raise RequestError(f"{name} is a base model: it continues a text. Ask /v1/completions", "model")
        prompt = engine.chat_prompt([message.plain() for message in wanted.messages])
        return await _respond(engine, ChatForm(name), wanted, prompt, request, "messages")

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        wanted = parse(CompletionRequest, await _body(request))
        _require_model(wanted.model, name)
        return await _respond(engine, TextForm(name), wanted, engine.text_prompt(wanted.prompt), request, "prompt")

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(UserError)
    async def failed(_: Request, error: UserError) -> Response:
        return JSONResponse(RequestError(str(error), status=503).body(), 503)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(RequestError(message, status=error.status_code).body(), error.status_code)

    return app


class ChatForm:
    """How an answer of /v1/chat/completions is written."""

    def __init__(self, model: str) -> None:
        self._about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": usage}

    def first(self) -> dict[str, Any] | None:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def part(self, text: str, finish: str | None) -> dict[str, Any]:
        return self._chunk({"content": text} if text else {}, finish)

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._about, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._about, "object": "chat.completion.chunk", "choices": [choice]}


class TextForm:
    """How an answer of /v1/completions is written."""

    def __init__(self, model: str) -> None:
        self._about = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._about["object"] = "text_completion"

    def whole(self, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
        return {**self.part(text, finish), "usage": usage}

    def first(self) -> dict[str, Any] | None:
        return None

    def part(self, text: str, finish: str | None) -> dict[str, Any]:
        return {**self._about, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._about, "choices": [], "usage": usage}


async def _body(request: Request) -> bytes:
    """The body of a request, read no further than it may be long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(f"the body is longer than {MAX_BODY_BYTES} bytes", status=413)
    return body


def _require_model(wanted: str, name: str) -> None:
    if wanted != name:
        message = f"there is no model {wanted[:100]!r} here; this server has {name!r}"
        raise RequestError(message, "model", "model_not_found", 404)


async def _respond(
    engine: Engine, form: ChatForm | TextForm, wanted: Generation, prompt: list[int], request: Request, param: str
) -> Response:
    room = engine.model.context - len(prompt)
    if room < 1:
        message = f"the prompt has {len(prompt)} tokens; this model reads {engine.model.context}, its answer included"
        raise RequestError(message, param, "context_length_exceeded")
    pieces = _stopped(engine.stream(prompt, wanted.sampling(room)), wanted.stop or [])
    if wanted.stream:
        return StreamingResponse(_events(pieces, form, wanted, len(prompt)), media_type="text/event-stream")
    text, last = "", Piece("", 0)
    async with aclosing(pieces):
        async for last in pieces:
            text += last.text
            if await request.is_disconnected():  # nobody is left to read it: the engine is freed
                return Response(status_code=499)
    return JSONResponse(form.whole(text, last.finish or "stop", _usage(len(prompt), last.tokens)))


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
    if first := form.first():
        yield _event(first)
    tokens = 0
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                tokens = piece.tokens
                if piece.text or piece.finish:
                    yield _event(form.part(piece.text, piece.finish))
    except UserError as error:
        yield _event(RequestError(str(error), status=503).body())
        return
    if wanted.stream_options and wanted.stream_options.include_usage:
        yield _event(form.usage(_usage(prompt_tokens, tokens)))
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
