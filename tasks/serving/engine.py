"""The engine: llama.cpp in this process behind a key of its own on loopback, asked with token ids and never with text.

What a user types never becomes a control token: the tokenizer that stands beside the model encodes it with control
tokens switched off, and the engine has no text to look for them in.
"""

import json
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from tasks.core.errors import UserError
from tasks.core.restore import recover
from tasks.model.tokenizer_files import has_chat_template
from tasks.score.results import SERVED
from tasks.text.chat import ChatEncoder
from tasks.text.conversation import Message

REQUEST_TIMEOUT_S = 600


QUANTIZED = Path("data/quantize")


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
class Piece:
    """A part of an answer: its text, the number of tokens said so far, and at the last part why it ended."""

    text: str
    tokens: int
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True)
class Model:
    """What is known of a GGUF file.

    Attributes:
        context: tokens that it was trained to read at once.
        chats: whether it was tuned to answer; a base model, which has no chat template beside it, continues a text.
    """

    path: Path
    context: int
    chats: bool


def find_model() -> Path:
    """The GGUF that the stage quantize made.

    Raises:
        UserError: it made none.
    """
    if not QUANTIZED.exists():
        recover(Path.cwd())
    made = [path for name in SERVED if (path := QUANTIZED / name / "model.gguf").exists()]
    if made:
        return made[0]
    if QUANTIZED.exists():
        raise UserError(f"{QUANTIZED}: holds no GGUF model. Name one in params.yaml, quantize.formats, and make run")
    raise UserError(f"{QUANTIZED}: no model is there yet. Make it first: make run")


def read_model(path: Path) -> Model:
    """Look at a GGUF file.

    Raises:
        UserError: there is no such file, or it is no GGUF.
    """
    from gguf import GGUFReader

    if not path.is_file():
        raise UserError(f"{path}: no such model. Make it first: make run")
    try:
        reader = GGUFReader(path)
        architecture = reader.get_field("general.architecture").contents()  # type: ignore[union-attr]
        context = reader.get_field(f"{architecture}.context_length").contents()  # type: ignore[union-attr]
        return Model(path, int(context), has_chat_template(path.parent))
    except (ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: no readable GGUF model ({error}). Restore it: dvc checkout --force {path}") from None


@dataclass
class Engine:
    """A GGUF model, with the tokenizer in its folder, that answers `slots` prompts at a time.

    Raises:
        UserError: there is no readable model, or no tokenizer beside it.
    """

    path: Path
    threads: int
    slots: int = 1
    model: Model = field(init=False)
    encoder: ChatEncoder = field(init=False)

    def __post_init__(self) -> None:
        import xllamacpp

        from tasks.model.llama_cpp import server_parameters, threads_for

        self.model = read_model(self.path)
        self.encoder = ChatEncoder(self.path.parent)
        threads = threads_for(self.path, self.threads) if self.slots == 1 else self.threads
        settings = server_parameters(self.path, self.model.context, threads, self.slots)
        settings.hostnames, settings.port = ["127.0.0.1"], 0
        key = secrets.token_urlsafe()  # nobody else on this machine gets past the front
        settings.api_keys = [key]
        self._server = xllamacpp.Server(settings)
        self._address = f"{self._server.listening_address}/completion"
        self._headers = {"Authorization": f"Bearer {key}"}
        list(self.pieces([self.encoder.start], Sampling(1)))  # else, ended at once, it waits for itself forever

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens after which the assistant speaks."""
        return self.encoder.prompt(messages, 1 << 62)

    def text_prompt(self, text: str) -> list[int]:
        """The tokens of a text that the model continues, as documents begin in training."""
        return [self.encoder.start, *self.encoder.texts([text])[0]]

    def pieces(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """The answer to a prompt of token ids, as it comes. Closing the iterator ends the generation.

        Raises:
            UserError: the engine gave no answer.
        """
        body = self._body(prompt, sampling)
        try:
            with (
                httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client,
                client.stream("POST", self._address, json=body, headers=self._headers) as response,
            ):
                if response.is_error:
                    response.read()
                _require_answer(response)
                yield from (piece for line in response.iter_lines() if (piece := _piece(line)))
        except httpx.HTTPError as error:
            raise UserError(f"the model gave no answer: {error!r}") from None

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """As `pieces`, for many at a time."""
        body = self._body(prompt, sampling)
        try:
            async with (
                httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client,
                client.stream("POST", self._address, json=body, headers=self._headers) as response,
            ):
                if response.is_error:
                    await response.aread()
                _require_answer(response)
                async for line in response.aiter_lines():
                    if piece := _piece(line):
                        yield piece
        except httpx.HTTPError as error:
            raise UserError(f"the model gave no answer: {error!r}") from None

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


def _piece(line: str) -> Piece | None:
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
        return Piece(event["content"], event["tokens_predicted"])
    return Piece(event["content"], event["tokens_predicted"], "length" if event["stop_type"] == "limit" else "stop")
