"""The tokenizer's control tokens, and how a chat is written with them.

`<|endoftext|>`, then for each message its role's token, its content and `<|end|>`. What the assistant says, with the
token that ends its turn, stands inside `{% generation %}`, so that transformers can tell which tokens to learn.
"""

START = "<|endoftext|>"
PAD = "<|pad|>"
END = "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (START, PAD, *ROLE_TOKENS.values(), END)
"""In the order of their ids, which begin at 0."""

CHAT_TEMPLATE = (
    "{{ '<|endoftext|>' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% elif message['role'] in ['system', 'user'] %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ raise_exception('unknown role: ' + message['role']) }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Jinja, as transformers and llama.cpp read it."""


def chat_template(start: str) -> str:
    """`CHAT_TEMPLATE` for a tokenizer in which `start` begins documents."""
    return CHAT_TEMPLATE.replace(START, start)
