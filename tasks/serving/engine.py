"""The engine: llama.cpp on a socket in the file system, asked with token ids and never with text.

What a user types never becomes a control token: the tokenizer that stands beside the model encodes it with control
tokens switched off, and the engine has no text to look for them in.
"""

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from tasks.conversations.conversation import Message
from tasks.core.errors import UserError
from tasks.serving.model_file import ServedModel, read_model
from tasks.tokens.chat_encoder import ChatEncoder

COMPLETION_URL = "http://llama.cpp/completion"
"""What is asked; who is asked is the one that listens on the socket."""
CLIENT_SETTINGS: dict[str, Any] = {"timeout": 600, "trust_env": False}
"""Settings of the HTTP client: seconds without a byte of an answer; nothing of the environment, such as proxies."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `seed` None: another answer each time. The penalties are llama.cpp's of those names."""

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 50
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """A chunk of an answer: its text, the number of tokens said so far, and at the last part why it ended."""

    text: str
    tokens: int
    finish_reason: Literal["stop", "length"] | None = None


@dataclass
class Engine:
    """Asks the llama.cpp that listens on `socket`, with the tokenizer in the model's folder.

    Raises:
        UserError: there is no readable model, or no tokenizer beside it.
    """

    path: Path
    socket: Path
    model: ServedModel = field(init=False)
    encoder: ChatEncoder = field(init=False)

    def __post_init__(self) -> None:
        self.load()

    def load(self) -> None:
        """Read what stands in the model's folder."""
        self.model, self.encoder = read_model(self.path), ChatEncoder(self.path.parent)

    @property
    def _transport(self) -> dict[str, Any]:
        return {"uds": str(self.socket), "verify": False}  # without TLS there is nobody to verify, and nothing to load

    @property
    def listens(self) -> bool:
        """Whether llama.cpp is there."""
        return self.socket.exists()

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens after which the assistant speaks."""
        return self.encoder.prompt(messages, 1 << 62)

    def text_prompt(self, text: str) -> list[int]:
        """The tokens of a text that the model continues, as documents begin in training."""
        return [self.encoder.start, *self.encoder.texts([text])[0]]

    def chunks(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Chunk]:
        """The answer to a prompt of token ids, as it comes. Closing the iterator ends the generation.

        Raises:
            UserError: the engine gave no answer.
        """
        body = self._body(prompt, sampling)
        try:
            with (
                httpx.Client(transport=httpx.HTTPTransport(**self._transport), **CLIENT_SETTINGS) as client,
                client.stream("POST", COMPLETION_URL, json=body) as response,
            ):
                if response.is_error:
                    response.read()
                _require_answer(response)
                lines = _Lines()
                for block in response.iter_bytes():
                    yield from (chunk for line in lines.of(block) if (chunk := _chunk(line)))
        except httpx.HTTPError as error:
            raise UserError(f"the model gave no answer ({type(error).__name__}). Ask again in a moment") from None

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """As `chunks`, for many at a time."""
        body = self._body(prompt, sampling)
        try:
            async with (
                httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**self._transport), **CLIENT_SETTINGS) as client,
                client.stream("POST", COMPLETION_URL, json=body) as response,
            ):
                if response.is_error:
                    await response.aread()
                _require_answer(response)
                lines = _Lines()
                async for block in response.aiter_bytes():
                    for line in lines.of(block):
                        if chunk := _chunk(line):
                            yield chunk
        except httpx.HTTPError as error:
            raise UserError(f"the model gave no answer ({type(error).__name__}). Ask again in a moment") from None

    def _body(self, prompt: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        return {
            "prompt": list(prompt),
            "n_predict": min(sampling.max_tokens, self.model.context - len(prompt)),
            "stream": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "seed": -1 if sampling.seed is None else sampling.seed,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }


def _require_answer(response: httpx.Response) -> None:
    if response.is_error:
        raise UserError(f"the model gave no answer ({response.status_code}): {response.text[:300]}")


class _Lines:
    """Lines of a stream of events, each ended by a line feed alone: httpx ends them at U+2028 too, which stands in JSON."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, block: bytes) -> list[str]:
        """Those that the next bytes complete."""
        *whole, self._rest = (self._rest + block).split(b"\n")
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


def _chunk(line: str) -> Chunk | None:
    """One line of the engine's stream (server-sent events).

    Raises:
        UserError: the engine broke off with an error.
    """
    name, _, data = line.partition(": ")
    if name == "error":
        raise UserError(f"the model broke off: {data[:300]}")
    if name != "data" or data == "[DONE]":
        return None
    event = json.loads(data)
    if "error" in event:
        raise UserError(f"the model broke off: {event['error'].get('message', data)[:300]}")
    if not event["stop"]:
        return Chunk(event["content"], event["tokens_predicted"])
    return Chunk(event["content"], event["tokens_predicted"], "length" if event["stop_type"] == "limit" else "stop")
