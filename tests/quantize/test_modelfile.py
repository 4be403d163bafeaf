"""Ollama's Modelfile: the chat format in Go's templates (which Go itself gave the encoder's tokens for), stops and context."""

from pathlib import Path

from tasks.quantize.modelfile import chat_template, write_modelfile
from tasks.tokens.chat_format import ChatFormat
from tests.helpers.tiny import tiny_tokenizer

TURNS = (
    '{{ range $i, $m := .Messages }}{{ if eq $m.Role "system" }}{{ "<|endoftext|><|system|>" }}{{ $m.Content }}{{ "<|end|>" }}'
    '{{ else }}{{ if eq $i 0 }}{{ "<|endoftext|>" }}{{ end }}{{ if eq $m.Role "assistant" }}{{ "<|assistant|>" }}'
    '{{ $m.Content }}{{ "<|end|>" }}{{ else }}{{ "<|user|>" }}{{ $m.Content }}{{ "<|end|>" }}{{ end }}{{ end }}{{ end }}'
    '{{ "<|assistant|>" }}'
)


def test_a_chat_and_a_text(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path)
    write_modelfile(tmp_path, tmp_path, 128, chat=True)
    lines = (tmp_path / "Modelfile").read_text().splitlines()
    assert lines[:3] == ["FROM ./model.gguf", f'TEMPLATE """{TURNS}"""', "PARAMETER num_ctx 128"]
    assert 'PARAMETER stop "<|end|>"' in lines
    assert 'PARAMETER stop "<|user|>"' in lines
    write_modelfile(tmp_path, tmp_path, 128, chat=False)
    lines = (tmp_path / "Modelfile").read_text().splitlines()
    assert lines[1] == 'TEMPLATE """{{ "<|endoftext|>" }}{{ .Prompt }}"""'
    assert lines[-1] == 'PARAMETER stop "<|endoftext|>"'


def test_what_a_format_writes_is_text_and_never_an_action() -> None:
    """Quotation marks, line ends and braces; a system message without a place leads what the user says first."""
    form = ChatFormat('{{ x }} "', {"user": "U\n", "assistant": "A"}, {"user": "\n", "assistant": "<e>"}, False)
    template = chat_template(form)
    assert template.count('{{ "{{ x }} \\"" }}') == 2
    assert '{{ "U\\n" }}{{ $m.Content }}{{ "\\n\\n" }}{{ else }}' in template
    assert '{{ if not (and (eq $i 1) (eq (index $.Messages 0).Role "system")) }}{{ "U\\n" }}{{ end }}' in template
    assert template.endswith('{{ "A" }}')
