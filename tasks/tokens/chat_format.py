"""Chat format: what a chat template writes around each message; found by rendering it, so that messages can be encoded one by one.

A template is somebody's Jinja, run in a sandbox. Most write each role's messages between the same two pieces of text,
wherever they stand, and something before the first. Those pieces are the chat format; a template without one is refused.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import Message
from tasks.core.errors import UserError
from tasks.tokens.special_tokens import SpecialTokens

GENERATION_MARKS = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")
"""They tell transformers what the assistant says; other readers of Jinja do not know them."""


PROBE_ROLES = {"s": "system", "u": "user", "a": "assistant"}


class UnsupportedTemplate(UserError):
    """A chat template that does not write messages one by one; the message says what it does instead."""


@dataclass(frozen=True)
class ChatFormat:
    """What stands around messages.

    Attributes:
        opening: before a first message that is no system message; with the system message that some templates supply.
        before, after: of each role, what leads and what ends its messages; a system message comes first, and what
            leads it holds the opening. Without `system`, the template has no place for one.
        strips: whether white space around contents is taken away.
    """

    opening: str
    before: dict[str, str]
    after: dict[str, str]
    strips: bool


def read_template(folder: Path) -> str | None:
    """The chat template beside a tokenizer: chat_template.jinja, or in tokenizer_config.json (the one named `default`)."""
    file, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template: Any = None
    if settings.exists():
        template = json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(template, list):
        template = next((each["template"] for each in template if each.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def detect_chat_format(template: str, tokens: SpecialTokens) -> ChatFormat:
    """The chat format of a template.

    Raises:
        UnsupportedTemplate: it cannot be rendered, what stands around a message depends on where it stands, no control token ends
            what the assistant says, or text of two messages would meet without a control token between.
    """
    render = _renderer(template, tokens)
    probe = _Probe(render)
    opening_alone, _, after_assistant = probe.between("ua")
    has_system = probe.works("sua")
    later = probe.between("uauau")
    opening_user, user_assistant, assistant_user, *again, after_user = later
    answer = probe.answer("u")
    if (
        again != [user_assistant, assistant_user]
        or opening_alone != opening_user
        or not assistant_user.startswith(after_assistant)
    ):
        raise UnsupportedTemplate("what it writes around a message depends on where the message stands")
    if user_assistant != after_user + answer:
        raise UnsupportedTemplate("it asks for an answer in another form than it writes answers in")
    before = {"user": assistant_user.removeprefix(after_assistant), "assistant": answer}
    after = {"user": after_user, "assistant": after_assistant}
    if not opening_user.endswith(before["user"]):
        raise UnsupportedTemplate(
            "what it writes before the first message is not what it writes before others, with something ahead"
        )
    if has_system:
        opening_system, system_user, *rest = probe.between("suau")
        if not system_user.endswith(before["user"]) or rest != [user_assistant, assistant_user, after_user]:
            raise UnsupportedTemplate("with a system message it writes the others in another form")
        before["system"], after["system"] = opening_system, system_user.removesuffix(before["user"])
    form = ChatFormat(opening_user.removesuffix(before["user"]), before, after, probe.strips())
    _require_borders(form, tokens)
    return form


def _require_borders(form: ChatFormat, tokens: SpecialTokens) -> None:
    """Messages are encoded by themselves: so a control token must stand where one ends and the next begins."""
    special = control_token_pattern(tokens)
    if not special.search(form.after["assistant"]):
        raise UnsupportedTemplate("no control token ends what the assistant says")
    for role, text in form.after.items():
        for follower in ("assistant",) if role == "user" else ("user",):
            begins = special.match(form.before[follower])
            ends = text and any(found.end() == len(text) for found in special.finditer(text))
            if not begins and not ends:
                raise UnsupportedTemplate(f"no control token stands between a message of the {role} and the next")


def control_token_pattern(tokens: SpecialTokens) -> re.Pattern[str]:
    """Finds control tokens in a text, the longest where several begin."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens.ids, key=len, reverse=True)))


class _Probe:
    """A template rendered with contents that occur nowhere else, to see what stands between them."""

    def __init__(self, render: Any) -> None:
        self._render = render

    def works(self, roles: str) -> bool:
        try:
            self.between(roles)
        except UnsupportedTemplate:
            return False
        return True

    def between(self, roles: str) -> list[str]:
        """The texts before, between and after the messages of these roles (s, u, a)."""
        text, marks = self._render(self._messages(roles), False), self._marks(roles)
        pieces: list[str] = []
        for mark in marks:
            piece, found, text = text.partition(mark)
            if not found or mark in text:
                raise UnsupportedTemplate("it leaves out or repeats a message")
            pieces.append(piece)
        return [*pieces, text]

    def answer(self, roles: str) -> str:
        """What it adds when asked for an answer."""
        plain, asked = (self._render(self._messages(roles), ask) for ask in (False, True))
        if not asked.startswith(plain) or asked == plain:
            raise UnsupportedTemplate("it has no form of asking for an answer (add_generation_prompt)")
        return str(asked.removeprefix(plain))

    def strips(self) -> bool:
        """Whether white space around contents goes.

        Raises:
            UnsupportedTemplate: some of it goes, or that of some roles only.
        """
        wrapped = "\n \t"
        kept = []
        for number in range(2):
            messages = self._messages("uau")
            messages[number] = {**messages[number], "content": wrapped + messages[number]["content"] + wrapped}
            mark = self._marks("uau")[number]
            before, _, after = self._render(messages, False).partition(mark)
            kept.append((before.endswith(wrapped), after.startswith(wrapped)))
        if len(set(kept)) > 1 or len(set(kept[0])) > 1:
            raise UnsupportedTemplate("it strips some of the white space around contents")
        return not kept[0][0]

    def _marks(self, roles: str) -> list[str]:
        return [f"\ue000{number}{role}\ue001" for number, role in enumerate(roles)]

    def _messages(self, roles: str) -> list[Message]:
        pairs = zip(roles, self._marks(roles), strict=True)
        return [{"role": PROBE_ROLES[role], "content": mark} for role, mark in pairs]  # type: ignore[typeddict-item]


def _renderer(template: str, tokens: SpecialTokens) -> Any:
    """The template as a function of (messages, whether to ask for an answer); with the names that transformers gives it.

    The time (`strftime_now`) is not among them: the same conversation always has the same tokens.
    """
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    try:
        compiled = environment.from_string(GENERATION_MARKS.sub("", template))
    except TemplateError as error:
        raise UnsupportedTemplate(f"it is no template that Jinja reads ({error})") from None

    def render(messages: Sequence[Message], ask: bool) -> str:
        try:
            return compiled.render(messages=messages, add_generation_prompt=ask, **tokens.named)
        except Exception as error:  # whatever somebody's template does
            raise UnsupportedTemplate(f"it cannot be rendered ({error})") from None

    return render
