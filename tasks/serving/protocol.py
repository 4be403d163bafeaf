"""OpenAI's requests as this server takes them, and its errors in OpenAI's form (platform.openai.com/docs/api-reference).

A key that is not known, or known and not served, is refused by name: an answer that leaves out what was asked for
looks right and is not. What is served is bounded here; llama.cpp gets nothing else (no grammar, schema or tool).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from tasks.conversations.conversation import Message
from tasks.serving.engine import Sampling

MAX_BODY_BYTES = 1 << 20
MAX_MESSAGES = 1024
"""Messages of a conversation, and parts of a message."""
Request = TypeVar("Request", bound="Generation")
Stop = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Name = Annotated[str, StringConstraints(max_length=500)]


class RequestError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status code.
        param: the key that is wrong, or None.
        code: OpenAI's name of the error, or None.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """OpenAI's form of an error."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Model):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(_Model):
    """A message; `developer` is the newer name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_MESSAGES)]
    name: Name | None = None

    def plain(self) -> Message:
        """As the project's conversations have it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(_Model):
    """What a stream tells besides the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Generation(_Model):
    """What both routes take. OpenAI's defaults of temperature and top_p are made for other models: these are `make chat`'s."""

    model: Name
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, lt=1 << 31)
    seed: int | None = Field(None, ge=0, lt=1 << 32)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    stop: list[Stop] | None = Field(None, max_length=16)
    n: Literal[1] | None = None
    user: Name | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> "Generation":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for requests with stream: true")
        return self

    def sampling(self, room: int) -> Sampling:
        """How to draw tokens, where `room` of them fit."""
        chosen = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "seed")}
        chosen |= {name: getattr(self, name) for name in ("presence_penalty", "frequency_penalty")}
        given = {name: value for name, value in chosen.items() if value is not None}
        return Sampling(max_tokens=min(self.limit or room, room), **given)

    @property
    def limit(self) -> int | None:
        """Most tokens that are wanted, or None."""
        return self.max_tokens


class ChatRequest(Generation):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def limit(self) -> int | None:
        """The newer name, or the older."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Generation):
    """POST /v1/completions."""

    prompt: str


def parse(kind: type[Request], body: bytes) -> Request:
    """The request in a body of JSON.

    Raises:
        RequestError: it is no such request; names the first key that is wrong.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RequestError(*_explain(first)) from None


def _explain(error: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    where = ".".join(str(part) for part in error["loc"] if part not in ("str", "list[TextPart]"))
    param = where[:200] or None
    if error["type"] == "json_invalid":
        return f"the body is no JSON that can be read: {error['msg']}", None, None
    if error["type"] == "extra_forbidden":
        return f"{param} is not known or not served here", param, "unsupported_parameter"
    if error["type"] == "missing":
        return f"{param} is missing", param, "missing_required_parameter"
    return f"{param or 'the request'}: {error['msg']}", param, "invalid_value"
