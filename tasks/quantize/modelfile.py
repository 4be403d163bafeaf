"""A Modelfile beside a GGUF, by which Ollama writes chats as the model was tuned on them (docs of github.com/ollama/ollama).

`ollama create mine -f data/quantize/q8_0/Modelfile`. Ollama knows the chat templates of others; of a GGUF with one of its
own it has to be told, in the language of Go's text/template.
"""

import json
from pathlib import Path

from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tokens.chat_format import ChatFormat
from tasks.tokens.special_tokens import read_special_tokens

TEMPERATURE = 0.7
"""As `make chat` draws replies."""


def write_modelfile(source: Path, folder: Path, context: int, chat: bool) -> None:
    """Write `folder`/Modelfile for `folder`/model.gguf, made of the model in `source`, which reads `context` tokens; without
    `chat`, for one that continues texts.
    """
    encoder = ChatEncoder(source)
    names = {number: name for name, number in read_special_tokens(source).ids.items()}
    start = names[encoder.start]
    template = chat_template(encoder.chat_format) if chat else f"{_written(start)}{{{{ .Prompt }}}}"
    stops = [names[number] for number in encoder.stop_ids if number in names] if chat else [start]
    lines = [
        "FROM ./model.gguf",
        f'TEMPLATE """{template}"""',
        f"PARAMETER num_ctx {context}",
        f"PARAMETER temperature {TEMPERATURE}",
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops),
    ]
    (folder / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")


def chat_template(form: ChatFormat) -> str:
    """The chat format as Go's text/template over .Messages, each with a .Role and .Content, up to where the assistant speaks.

    Where the format has no place for a system message, it leads the first message of the user.
    """
    user = f"{_written(form.before['user'])}{{{{ $m.Content }}}}{_written(form.after['user'])}"
    assistant = f"{_written(form.before['assistant'])}{{{{ $m.Content }}}}{_written(form.after['assistant'])}"
    opening = f"{{{{ if eq $i 0 }}}}{_written(form.opening)}{{{{ end }}}}" if form.opening else ""
    if "system" in form.before:
        system = f"{_written(form.before['system'])}{{{{ $m.Content }}}}{_written(form.after['system'])}"
    else:
        system = f"{opening}{_written(form.before['user'])}{{{{ $m.Content }}}}{_written(chr(10) * 2)}"
        led = '{{ if not (and (eq $i 1) (eq (index $.Messages 0).Role "system")) }}'
        user = f"{led}{_written(form.before['user'])}{{{{ end }}}}{{{{ $m.Content }}}}{_written(form.after['user'])}"
    return (
        '{{ range $i, $m := .Messages }}{{ if eq $m.Role "system" }}'
        f'{system}{{{{ else }}}}{opening}{{{{ if eq $m.Role "assistant" }}}}{assistant}{{{{ else }}}}{user}{{{{ end }}}}'
        f"{{{{ end }}}}{{{{ end }}}}{_written(form.before['assistant'])}"
    )


def _written(text: str) -> str:
    """Text as a template's action: JSON's strings are Go's, and no brace in them is taken for an action."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
