"""`make chat`: talk to the quantized model in the terminal. Lines piped in are answered one by one.

A base model continues what it is given, each line by itself.
"""

import argparse
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from tasks.conversations.conversation import Message
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.serving.asked_model import asked_model
from tasks.serving.engine import Engine, Sampling
from tasks.serving.llama_process import running_llama

HELP = "/reset forgets the conversation, Ctrl-C stops an answer, /quit or Ctrl-D ends."
BASE_HELP = "This is a base model: it continues your text. Ctrl-C stops it, /quit or Ctrl-D ends."


class Chat:
    """A conversation with a model in this process."""

    def __init__(self, engine: Engine, max_tokens: int, temperature: float) -> None:
        longest = min(max_tokens, engine.model.context // 2)
        self._engine, self._sampling = engine, Sampling(longest, temperature)
        self._longest_prompt = engine.model.context - longest
        self.messages: list[Message] = []

    def reply(self, text: str) -> Generator[str, None, None]:
        """Pieces of the answer to `text`, as they are generated. What leaves no room for an answer is forgotten, oldest first.

        Raises:
            UserError: `text` alone is too long, or the engine gave no answer; the conversation is as it was before.
        """
        if not self._engine.model.has_chat_template:
            yield from self._say(self._fit(self._engine.text_prompt(text)))
            return
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        chunks: list[str] = []
        try:
            prompt = self._engine.chat_prompt(self.messages)
            while len(prompt) > self._longest_prompt and len(self.messages) > 1:
                del self.messages[:2]  # a question and its answer
                prompt = self._engine.chat_prompt(self.messages)
            with closing(self._say(self._fit(prompt))) as said:
                for chunk in said:
                    chunks.append(chunk)
                    yield chunk
        finally:  # also when the reader stops listening
            if chunks:
                self.messages.append({"role": "assistant", "content": "".join(chunks)})
            else:
                self.messages = before

    def _fit(self, prompt: list[int]) -> list[int]:
        if len(prompt) > self._longest_prompt:
            raise UserError(f"that is too long: the model reads {self._longest_prompt} tokens at once")
        return prompt

    def _say(self, prompt: list[int]) -> Generator[str, None, None]:
        for chunk in self._engine.chunks(prompt, self._sampling):
            if chunk.text:
                yield chunk.text


def chat_loop(chat: Chat, instructions: str) -> None:
    """Read lines until the end of input; print answers as they come."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401 - line editing and history for input()

        print(instructions)
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
            print_reply(chat, line, "textmill> " if interactive else "")


def print_reply(chat: Chat, line: str, lead: str) -> None:
    """Print the answer to one line, led by `lead`. Ctrl-C ends the answer, not the chat."""
    print(lead, end="")
    reply = chat.reply(line)
    try:
        for chunk in reply:
            print(chunk, end="", flush=True)
    except KeyboardInterrupt:
        reply.close()
    except UserError as error:
        print(error, end="")
    print(flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and talk; the exit code."""
    from tasks.core.execution import load_execution

    parser = argparse.ArgumentParser(prog="python -m tasks.serving.chat", description=__doc__)
    parser.add_argument(
        "--model", help="a GGUF file or a released version (champion, latest, 3); default: the one of data/quantize"
    )
    parser.add_argument("--max-tokens", type=int, default=80, help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="textmill-") as folder:
            engine = Engine(asked_model(options.model, Path.cwd()), Path(folder, "llama.sock"))
            with running_llama(engine, load_execution().thread_count(1)):
                chat_loop(
                    Chat(engine, options.max_tokens, options.temperature),
                    HELP if engine.model.has_chat_template else BASE_HELP,
                )
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
