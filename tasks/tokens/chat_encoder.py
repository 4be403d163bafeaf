"""Conversations as tokens: what the chat template gives, except that text never becomes a control token."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.conversations.conversation import Message
from tasks.core.errors import UserError
from tasks.tokens.chat_format import (
    GENERATION_MARKS,
    ChatFormat,
    UnsupportedTemplate,
    control_token_pattern,
    detect_chat_format,
    read_template,
)
from tasks.tokens.special_tokens import read_special_tokens


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation's tokens, [length], and which of them the assistant says (its text and the end of its turn)."""

    ids: list[int]
    assistant_mask: list[bool]


@dataclass(frozen=True)
class EncodedTurn(EncodedConversation):
    """One message's tokens, without what opens a conversation."""

    role: str


@dataclass(frozen=True)
class _RoleTokens:
    """What stands around the messages of a role: control tokens, and the text beside the content, encoded with it."""

    before: list[int]
    lead: str
    lead_tokens: int
    tail: str
    after: list[int]


class ChatEncoder:
    """Encodes messages with the tokenizer in `folder`, in the format of the chat template beside it.

    A chat template renders text first and encodes it afterwards, so a message that spells `<|assistant|>` would forge
    a turn. Here contents are encoded with control tokens switched off; for all other contents the result is the
    template's (`require_template` checks it).

    Attributes:
        start, pad: ids of the tokens that begin a document and that fill rows.
        turn_end: id of the token that ends what the assistant says.
        stop_ids: of the tokens that end a reply: `turn_end`, `start`, and those that begin somebody's turn.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
            self._trusted = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(f"{path}: holds no readable tokenizer ({error}). Make it: dvc repro tokenizer") from None
        self._tokenizer.encode_special_tokens = True
        self._folder, self._tokens = folder, read_special_tokens(folder)
        self.start, self.pad = self._tokens.ids[self._tokens.start], self._tokens.ids[self._tokens.pad]

    @cached_property
    def chat_format(self) -> ChatFormat:
        """The format of the chat template.

        Raises:
            UserError: there is none, or one that does not write messages one by one.
        """
        template = read_template(self._folder)
        if template is None:
            raise UserError(f"{self._folder}: the tokenizer has no chat template. Make it again: dvc repro tokenizer")
        try:
            return detect_chat_format(template, self._tokens)
        except UnsupportedTemplate as error:
            raise UserError(f"{self._folder}: the chat template cannot be used: {error}") from None

    @cached_property
    def turn_end(self) -> int:
        return next(token for token in self._parts["assistant"].after if token in self._tokens.ids.values())

    @cached_property
    def stop_ids(self) -> list[int]:
        begins = [ids[0] for part in self._parts.values() if (ids := part.before)]
        return list(dict.fromkeys([self.turn_end, self.start, *begins]))

    @cached_property
    def _parts(self) -> dict[str, _RoleTokens]:
        special = control_token_pattern(self._tokens)
        parts = {}
        for role, before in self.chat_format.before.items():
            after = self.chat_format.after[role]
            last = max((found.end() for found in special.finditer(before)), default=0)
            found = special.search(after)
            first = found.start() if found else len(after)
            lead, tail = before[last:], after[:first]
            parts[role] = _RoleTokens(
                self._written(before[:last]), lead, len(self.texts([lead])[0]), tail, self._written(after[first:])
            )
        return parts

    @cached_property
    def _opening(self) -> list[int]:
        return self._written(self.chat_format.opening)

    def _written(self, text: str) -> list[int]:
        """The tokens of the template's own text, its control tokens among them."""
        ids: list[int] = self._trusted.encode(text, add_special_tokens=False).ids
        return ids

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of plain texts, without any control token."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def turns(self, conversations: Sequence[Sequence[Message]]) -> list[list[EncodedTurn]]:
        """Each message of each conversation (of `fold_system`) by itself; what opens a conversation is not among them."""
        prepared = [self.fold_system(messages) for messages in conversations]
        texts = []
        for messages in prepared:
            for message in messages:
                part, content = self._parts[message["role"]], message["content"]
                texts.append(part.lead + (content.strip() if self.chat_format.strips else content) + part.tail)
        encoded = iter(self.texts(texts))
        return [[self._turn(message["role"], next(encoded)) for message in messages] for messages in prepared]

    def fold_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages for which the template has a place, in each a turn: where it has none for a system message, its text
        leads the first message of the user.
        """
        if "system" in self.chat_format.before or not messages or messages[0]["role"] != "system":
            return messages
        system, *others = messages
        if not others or others[0]["role"] != "user":
            return [{"role": "user", "content": system["content"]}, *others]
        return [{"role": "user", "content": f"{system['content']}\n\n{others[0]['content']}"}, *others[1:]]

    def _turn(self, role: str, ids: list[int]) -> EncodedTurn:
        part = self._parts[role]
        whole = [*part.before, *ids, *part.after]
        if role != "assistant":
            return EncodedTurn(whole, [False] * len(whole), role)
        unsaid = len(part.before) + part.lead_tokens
        said = len(part.before) + len(ids) + part.after.index(self.turn_end) + 1 - unsaid
        return EncodedTurn(whole, [False] * unsaid + [True] * said + [False] * (len(whole) - unsaid - said), role)

    def join(self, turns: Sequence[EncodedTurn]) -> EncodedConversation:
        """One sequence of a conversation's turns, with what opens it."""
        ids = [] if turns and turns[0].role == "system" else list(self._opening)
        assistant = [False] * len(ids)
        for turn in turns:
            ids += turn.ids
            assistant += turn.assistant_mask
        return EncodedConversation(ids, assistant)

    def prompt(self, messages: Sequence[Message], longest: int) -> list[int]:
        """The tokens after which the assistant speaks. Of a prompt above `longest` tokens, the oldest but the first go."""
        part = self._parts["assistant"]
        return _within([*self.join(self.turns([messages])[0]).ids, *part.before, *self.texts([part.lead])[0]], longest)

    def document_prompt(self, text: str, longest: int) -> list[int]:
        """The tokens of a document that begins with `text`. Of more than `longest`, the oldest but the first go."""
        return _within([self.start, *self.texts([text])[0]], longest)


def _within(ids: list[int], longest: int) -> list[int]:
    return ids if len(ids) <= longest else [ids[0], *ids[len(ids) - longest + 1 :]]


def require_template(folder: Path) -> None:
    """Check that `ChatEncoder` gives the tokens that transformers gives by the chat template beside the tokenizer.

    Raises:
        UserError: it is missing or gives others, so the model would be asked in another form than it was taught.
    """
    from transformers import AutoTokenizer

    probe: list[Message] = [
        {"role": "user", "content": "Where is the café?"},
        {"role": "assistant", "content": "At the sea."},
        {"role": "user", "content": " Thanks \n"},
        {"role": "assistant", "content": "\tBye! "},
        {"role": "user", "content": "\n  Wait: 12,345?"},
    ]
    encoder, tokenizer = ChatEncoder(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    again = "Make it again: dvc repro tokenizer"
    marked = bool(GENERATION_MARKS.search(read_template(folder) or ""))
    system: Message = {"role": "system", "content": "Be brief."}
    for messages in (probe, [system, *probe] if "system" in encoder.chat_format.before else probe):
        ours = encoder.join(encoder.turns([messages])[0])
        theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=marked)
        if theirs["input_ids"] != ours.ids:
            raise UserError(f"{folder}: the chat template gives other tokens than the model is tuned on. {again}")
        if marked and [bool(says) for says in theirs["assistant_masks"]] != ours.assistant_mask:
            raise UserError(
                f"{folder}: the chat template does not mark what the assistant says and the end of its turn "
                f"({{% generation %}}). {again}"
            )
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        if prompt != encoder.prompt(messages, len(prompt)):
            raise UserError(
                f"{folder}: the chat template asks for an answer in another form than it writes one. {again}"
            )
