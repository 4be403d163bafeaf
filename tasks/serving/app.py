"""The routes: chat completions, completions, models and health, plain or as a stream of server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from tasks.core.errors import UserError
from tasks.serving.access import Access, AccessMiddleware
from tasks.serving.admission import Admission
from tasks.serving.engine import Engine
from tasks.serving.protocol import MAX_BODY_BYTES, ChatRequest, CompletionRequest, RequestError, parse
from tasks.serving.response_formats import ChatResponseFormat, CompletionResponseFormat
from tasks.serving.responses import CLIENT_CLOSED_REQUEST, engine_unavailable, error_response, respond


def make_app(engine: Engine, name: str, access: Access, admission: Admission) -> FastAPI:
    """The server of `engine`, whose model is called `name`, for those whom `access` and `admission` let in."""
    app = FastAPI(title="Textmill", openapi_url=None)
    app.add_middleware(AccessMiddleware, access=access, admission=admission)
    if access.origins:
        asks: Any = {"allow_methods": ["GET", "POST"], "allow_headers": ["Authorization", "Content-Type"]}
        app.add_middleware(CORSMiddleware, allow_origins=access.origins, **asks)
    _add_refusals(app)
    about = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "textmill"}

    async def held(body: Annotated[bytes, Depends(_body)]) -> AsyncIterator[bytes]:
        with admission.hold():  # until the answer is sent, or nobody is left to read it
            yield body

    @app.get("/health")
    async def health() -> dict[str, str]:
        if not engine.listens:
            raise RequestError("the model is being started", code="starting", status=503)
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [about]}

    @app.get("/v1/models/{model}")
    async def one_model(model: str) -> dict[str, Any]:
        _require_model(model, name)
        return about

    @app.post("/v1/chat/completions")
    async def chat(request: Request, body: Annotated[bytes, Depends(held)]) -> Response:
        wanted = parse(ChatRequest, body)
        _require_model(wanted.model, name)
        if not engine.model.has_chat_template:
            raise RequestError(f"{name} is a base model: it continues a text. Ask /v1/completions", "model")
        messages = [message.plain() for message in wanted.messages]
        prompt = await asyncio.to_thread(engine.chat_prompt, messages)  # a long one takes its time
        return await respond(engine, ChatResponseFormat(name), wanted, prompt, request, "messages")

    @app.post("/v1/completions")
    async def completions(request: Request, body: Annotated[bytes, Depends(held)]) -> Response:
        wanted = parse(CompletionRequest, body)
        _require_model(wanted.model, name)
        prompt = await asyncio.to_thread(engine.text_prompt, wanted.prompt)
        return await respond(engine, CompletionResponseFormat(name), wanted, prompt, request, "prompt")

    return app


def _add_refusals(app: FastAPI) -> None:
    """Whatever goes wrong is told in OpenAI's format."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        return error_response(error)

    @app.exception_handler(UserError)
    async def failed(_: Request, error: UserError) -> Response:
        return error_response(engine_unavailable(error))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return error_response(RequestError(message, status=error.status_code))

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)  # amid its own request

    @app.exception_handler(Exception)
    async def defect(_: Request, __: Exception) -> Response:
        return error_response(RequestError("this server failed; its log says where", status=500))


async def _body(request: Request) -> bytes:
    """The body of a request, read no further than it may be long.

    Only JSON that is called so: a web page may have a browser send anything else without asking.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the request needs the header Content-Type: application/json", status=415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(f"the body is longer than {MAX_BODY_BYTES} bytes", status=413)
    return bytes(body)


def _require_model(wanted: str, name: str) -> None:
    if wanted != name:
        message = f"there is no model {wanted[:100]!r} here; this server has {name!r}"
        raise RequestError(message, "model", "model_not_found", 404)
