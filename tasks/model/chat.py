"""`make chat`: talk to the quantized model in the terminal. Lines piped in are answered one by one."""

import argparse
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.model.serve import MODEL, context_length

HELP = "/reset forgets the conversation, Ctrl-C stops an answer, /quit or Ctrl-D ends."


class Chat:
    """A conversation with a GGUF model in this process."""

    def __init__(self, model: Path, max_tokens: int, temperature: float) -> None:
        context = context_length(model)
        import xllamacpp
        from openai import OpenAI

        from tasks.core.execution import load_execution
        from tasks.model.llama_cpp import server_parameters, threads_for

        threads = threads_for(model, load_execution().thread_count(1))
        settings = server_parameters(model, context, threads)
        settings.use_jinja = True
        settings.hostnames, settings.port = ["127.0.0.1"], 0
        self._server = xllamacpp.Server(settings)
        self._client = OpenAI(base_url=f"{self._server.listening_address}/v1", api_key="none", max_retries=0)
        self._max_tokens = min(max_tokens, context // 2)
        self._longest_prompt = context - self._max_tokens
        self._temperature = temperature
        self.messages: list[dict[str, str]] = []

    def reply(self, text: str) -> Generator[str, None, None]:
        """Pieces of the answer to `text`, as they are generated. What leaves no room for an answer is forgotten, oldest first.

        Raises:
            UserError: `text` alone is too long, or the server gave no answer; the conversation is as it was before.
        """
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        try:
            while self._prompt_tokens() > self._longest_prompt:
                if len(self.messages) == 1:
                    raise UserError(f"that is too long: the model reads {self._longest_prompt} tokens at once")
                del self.messages[:2]  # a question and its answer
            for piece in self._stream():
                pieces.append(piece)
                yield piece
        finally:  # also when the reader stops listening
            if pieces:
                self.messages.append({"role": "assistant", "content": "".join(pieces)})
            else:
                self.messages = before

    def _prompt_tokens(self) -> int:
        from openai import APIError

        root = self._server.listening_address
        try:
            template: Any = self._client.post(
                f"{root}/apply-template", body={"messages": self.messages}, cast_to=object
            )
            body = {"content": template["prompt"], "add_special": False, "parse_special": True}
            tokenized: Any = self._client.post(f"{root}/tokenize", body=body, cast_to=object)
        except APIError as error:
            raise UserError(f"the model gave no answer: {error}") from None
        return len(tokenized["tokens"])

    def _stream(self) -> Iterator[str]:
        from openai import APIError

        messages: Any = self.messages
        try:
            with self._client.chat.completions.create(
                model="textmill",
                messages=messages,
                stream=True,
                max_tokens=self._max_tokens,
                temperature=self._temperature,
                top_p=0.95,
                extra_body={"top_k": 50},
            ) as stream:
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content
        except APIError as error:
            raise UserError(f"the model gave no answer: {error}") from None


def talk(chat: Chat) -> None:
    """Read lines until the end of input; print answers as they come."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401 - line editing and history for input()

        print(HELP)
    while True:
        try:
            line = input("you> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line == "/quit":
            return
        if line == "/reset":
            chat.messages.clear()
        elif line:
            answer(chat, line, "textmill> " if interactive else "")


def answer(chat: Chat, line: str, lead: str) -> None:
    """Print the answer to one line, led by `lead`. Ctrl-C ends the answer, not the chat."""
    print(lead, end="")
    reply = chat.reply(line)
    try:
        for piece in reply:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        reply.close()
    except UserError as error:
        print(error, end="")
    print(flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and talk; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.model.chat", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help=f"a GGUF file (default {MODEL})")
    parser.add_argument("--max-tokens", type=int, default=80, help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args(arguments)
    try:
        talk(Chat(options.model, options.max_tokens, options.temperature))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
