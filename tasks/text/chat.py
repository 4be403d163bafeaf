"""Conversations as tokens: what the chat template gives, except that text never becomes a control token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import UserError
from tasks.text.chat_template import END, PAD, ROLE_TOKENS, SPECIAL_TOKENS, START
from tasks.text.conversation import Message


@dataclass(frozen=True)
class Encoded:
    """A conversation's tokens, [length], and which of them the assistant says (its text and the end of its turn)."""

    ids: list[int]
    assistant: list[bool]


class ChatEncoder:
    """Encodes messages with the tokenizer in `folder`: start, then for each message its role, its content and the end.

    A chat template renders text first and encodes it afterwards, so a message that spells `<|assistant|>` would forge
    a turn. Here contents are encoded by themselves, with control tokens switched off; for all other contents the
    result is the template's (`require_template` checks it).
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(f"{path}: holds no readable tokenizer ({error}). Make it: dvc repro tokenizer") from None
        self._tokenizer.encode_special_tokens = True
        ids: dict[str, int] = {
            token: number for token in SPECIAL_TOKENS if (number := self._tokenizer.token_to_id(token)) is not None
        }
        if missing := [token for token in SPECIAL_TOKENS if token not in ids]:
            raise UserError(f"{path}: has no token {', '.join(missing)}. Make it again: dvc repro tokenizer")
        self.start, self.pad, self.end = ids[START], ids[PAD], ids[END]
        self.roles = {role: ids[token] for role, token in ROLE_TOKENS.items()}

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of plain texts, without any control token."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def turns(self, conversations: Sequence[Sequence[Message]]) -> list[list[Encoded]]:
        """Each message of each conversation by itself: role, content, end; the start token is not among them."""
        contents = iter(self.texts([message["content"] for messages in conversations for message in messages]))
        return [[self._turn(message["role"], next(contents)) for message in messages] for messages in conversations]

    def _turn(self, role: str, content: list[int]) -> Encoded:
        says = role == "assistant"
        return Encoded([self.roles[role], *content, self.end], [False, *[says] * (len(content) + 1)])

    def join(self, turns: Sequence[Encoded]) -> Encoded:
        """One sequence of a conversation's turns, with the start token."""
        ids, assistant = [self.start], [False]
        for turn in turns:
            ids += turn.ids
            assistant += turn.assistant
        return Encoded(ids, assistant)

    def prompt(self, messages: Sequence[Message], longest: int) -> list[int]:
        """The tokens after which the assistant speaks. Of a prompt above `longest` tokens, the oldest tokens go."""
        ids = [*self.join(self.turns([messages])[0]).ids, self.roles["assistant"]]
        return ids if len(ids) <= longest else [self.start, *ids[len(ids) - longest + 1 :]]


def require_template(folder: Path) -> None:
    """Check that the chat template beside the tokenizer gives the tokens that `ChatEncoder` gives.

    Raises:
        UserError: it is missing or gives others, so the model would be asked in another form than it was taught.
    """
    from transformers import AutoTokenizer

    probe: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is the café?"},
        {"role": "assistant", "content": "At the sea."},
        {"role": "user", "content": " Thanks \n"},
        {"role": "assistant", "content": "\tBye! "},
    ]
    encoder, tokenizer = ChatEncoder(folder), AutoTokenizer.from_pretrained(folder)
    ours = encoder.join(encoder.turns([probe])[0])
    again = "Make it again: dvc repro tokenizer"
    if not tokenizer.chat_template:
        raise UserError(f"{folder}: the tokenizer has no chat template. {again}")
    theirs = tokenizer.apply_chat_template(probe, return_dict=True, return_assistant_tokens_mask=True)
    if theirs["input_ids"] != ours.ids:
        raise UserError(f"{folder}: the chat template gives other tokens than the model is tuned on. {again}")
    if [bool(says) for says in theirs["assistant_masks"]] != ours.assistant:
        raise UserError(
            f"{folder}: the chat template does not mark what the assistant says and the end of its turn "
            f"({{% generation %}}). {again}"
        )
    prompt = tokenizer.apply_chat_template(probe[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    if prompt != encoder.prompt(probe[:2], len(prompt)):
        raise UserError(f"{folder}: the chat template's generation prompt is not {ROLE_TOKENS['assistant']}. {again}")
