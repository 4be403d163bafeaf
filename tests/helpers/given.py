"""Models of others, made in a second: other families, other tokenizers, other templates than the pipeline's own."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.core.params import params_model, validate
from tasks.core.paths import Inputs, Outputs

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = [
    f"{who} {does} {what}."
    for who in ("the cat", "my dog")
    for does in ("likes", "sees")
    for what in ("tea", "12 seas")
]


def tokenizer(folder: Path, splitter: Any, template: str | None = CHATML, special: tuple[str, ...] = ()) -> Any:
    """A byte-level BPE that splits as `splitter` says, with ChatML's control tokens, saved to `folder`."""
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = splitter, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def gpt2_split() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def digits_split() -> Any:
    """As SmolLM2's: each digit by itself."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2_split()])


def qwen_split() -> Any:
    from tokenizers import Regex

    from tasks.model.gguf_support import QWEN2

    split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def given_model(folder: Path, kind: str, splitter: Any, template: str | None = CHATML, **changes: Any) -> Any:
    """A model with random weights of one of the kinds llama, qwen2, qwen3, gpt2, opt, bloom, and its tokenizer, saved to `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    size = len(tokenizer(folder, splitter, template))
    shape: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    if kind == "gpt2":
        shape = {"vocab_size": size, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
    if kind == "qwen3":
        shape["head_dim"] = 16
    if kind == "opt":
        shape = {k: v for k, v in shape.items() if "key_value" not in k and k != "intermediate_size"}
        shape |= {"ffn_dim": 96, "word_embed_proj_dim": 64}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **ids, **changes)).eval()
    model.save_pretrained(folder)
    return model


def stage(
    module: Any, data: Path, inputs: list[str], settings: dict[str, Any] | None = None, **params: Any
) -> dict[str, Any]:
    """Run a stage as the project does: inputs and outputs under `data`."""
    name = module.__name__.split(".")[1]
    outputs = Outputs(data / name, data.parent / "work" / name)
    for folder in (outputs.root, outputs.work):
        folder.mkdir(parents=True)
    paths = {Path(path).name: data / path for path in inputs}
    metrics = module.run(validate(params_model(name), params, name), Inputs(paths, name, settings), outputs)
    json.dumps(metrics, allow_nan=False)
    return metrics
