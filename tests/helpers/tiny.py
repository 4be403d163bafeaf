"""A tiny tokenizer and Llama model in the form of the pipeline's own, made in a second or two, for tests of what loads them."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import SCHEMA
from tasks.documents.shards import write_documents

SPECIAL = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{{ '<|endoftext|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SUBJECTS = ["the cat", "my dog", "a teacher", "the old tree", "our house", "music", "the weather", "a long book"]
VERBS = ["likes", "sees", "wants", "remembers", "is near", "needs", "was like", "knows"]
OBJECTS = ["the sea", "green tea", "a small town", "the café", "nothing", "summer rain", "bread", "good friends"]


def sentence(rng: random.Random) -> str:
    return f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}"


def conversation(seed: int, turns: int = 4) -> list[dict[str, str]]:
    """A dialogue of `turns` turns that begins with the user; the same for the same seed."""
    rng = random.Random(seed)
    return [{"role": ("user", "assistant")[turn % 2], "content": sentence(rng) + "."} for turn in range(turns)]


def tiny_tokenizer(folder: Path, vocabulary: int = 384) -> Any:
    """A byte-level BPE with the pipeline's special tokens and chat template, saved to `folder`; returns the loaded one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator((turn["content"] for seed in range(100) for turn in conversation(seed)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=SPECIAL[0], eos_token=SPECIAL[0], pad_token=SPECIAL[1]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def tiny_model(folder: Path, train_steps: int = 0, context_length: int = 128) -> Any:
    """A Llama of about 0.1 M parameters with the tiny tokenizer, saved to `folder` as pretrain does; returns the model.

    With `train_steps` it is trained on conversations (8 a step, whole sequences), so that it is better than chance.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context_length,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(train_steps):
        texts = [
            tokenizer.apply_chat_template(conversation(8 * step + row), tokenize=False) + SPECIAL[0] for row in range(8)
        ]
        batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
        input_ids = batch.input_ids[:, :context_length]
        labels = input_ids.masked_fill(input_ids == tokenizer.pad_token_id, -100)
        model(input_ids=input_ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    model.save_pretrained(folder)
    return model


def conversations(folder: Path, rows: Iterable[list[dict[str, str]]]) -> Path:
    """Dialogues as instruct leaves them, in `folder`."""
    write_documents(
        (
            {"id": str(i), "source": "s", "kind": "conversation", "messages": messages}
            for i, messages in enumerate(rows)
        ),
        folder,
        schema=SCHEMA,
    )
    return folder
