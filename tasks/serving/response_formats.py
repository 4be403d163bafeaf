"""How answers are written: OpenAI's chat completions and completions, whole or in chunks."""

import time
import uuid
from typing import Any


class ChatResponseFormat:
    """How an answer of /v1/chat/completions is written."""

    def __init__(self, model: str) -> None:
        self._about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def response(self, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": usage}

    def first_chunk(self) -> dict[str, Any] | None:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def chunk(self, text: str, finish: str | None) -> dict[str, Any]:
        return self._chunk({"content": text} if text else {}, finish)

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._about, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._about, "object": "chat.completion.chunk", "choices": [choice]}


class CompletionResponseFormat:
    """How an answer of /v1/completions is written."""

    def __init__(self, model: str) -> None:
        self._about = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._about["object"] = "text_completion"

    def response(self, text: str, finish: str, usage: dict[str, int]) -> dict[str, Any]:
        return {**self.chunk(text, finish), "usage": usage}

    def first_chunk(self) -> dict[str, Any] | None:
        return None

    def chunk(self, text: str, finish: str | None) -> dict[str, Any]:
        return {**self._about, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._about, "choices": [], "usage": usage}


ResponseFormat = ChatResponseFormat | CompletionResponseFormat


def token_usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
