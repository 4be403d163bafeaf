"""Prompts: how a model is asked; a tuned one in a chat, a base model by a text that it continues."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.conversations.conversation import Message
from tasks.tokens.chat_encoder import ChatEncoder

ROLE_PREFIXES = {"system": "", "user": "Question: ", "assistant": "Answer: "}
"""Before each message of a text that a base model continues; the question-and-answer form of lm-eval's own tasks."""


@dataclass(frozen=True)
class PromptBuilder:
    """Prompts as token ids, at most `longest` of them (the oldest go), and what of a reply is the answer."""

    encoder: ChatEncoder
    tuned: bool

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end a reply; a text ends where the next would begin."""
        return self.encoder.stop_ids if self.tuned else [self.encoder.start]

    def question(self, messages: Sequence[Message], longest: int) -> list[int]:
        """After these tokens the model answers the last message."""
        if self.tuned:
            return self.encoder.prompt(messages, longest)
        return self.encoder.document_prompt(completion_prompt(messages), longest)

    def sample(self, text: str, longest: int) -> list[int]:
        """After these tokens the model replies to `text`, or goes on with it."""
        return (
            self.question([{"role": "user", "content": text}], longest)
            if self.tuned
            else self.encoder.document_prompt(text, longest)
        )

    def choice(self, question: str, choice: str) -> tuple[list[int], list[int]]:
        """The tokens after which a question is answered, and those of `choice` as the answer.

        A base model's are one text, cut where the answer begins, as lm-eval cuts it.
        """
        if self.tuned:
            asked = self.encoder.prompt([{"role": "user", "content": question}], 1 << 62)
            return asked, self.encoder.texts([choice])[0]
        text = completion_prompt([{"role": "user", "content": question}])
        before, whole = self.encoder.texts([text, f"{text} {choice}"])
        return [self.encoder.start, *before], whole[len(before) :]

    def answer(self, reply: str) -> str:
        """The answer in a reply: a base model goes on with the next question on a line of its own."""
        return reply if self.tuned else reply.strip().partition("\n")[0].strip()


def completion_prompt(messages: Sequence[Message]) -> str:
    """The messages as a text that ends where the answer to the last one is due."""
    return "\n".join(
        [
            *(ROLE_PREFIXES[message["role"]] + message["content"] for message in messages),
            ROLE_PREFIXES["assistant"].rstrip(),
        ]
    )
