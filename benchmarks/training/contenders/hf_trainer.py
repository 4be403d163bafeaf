"""Hugging Face's Trainer with its defaults (AdamW, linear decay, no warm-up, clipping at 1, batches of 8), on Textmill's Llama.

Only the learning rate is CONFIG's: the default, 5e-5, is for tuning.
"""

from pathlib import Path

import numpy as np
import torch
from measure import Clock, flops_per_token, held_out_bits_per_byte, matrices, parameters, settings
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)


class FlatFile(torch.utils.data.Dataset):
    """Rows cut out of the file one after another."""

    def __init__(self, config: dict) -> None:
        self.tokens = np.memmap(Path(config["folder"]) / "train.bin", dtype=np.uint16, mode="r")
        self.context = config["context"]

    def __len__(self) -> int:
        return len(self.tokens) // self.context

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        row = torch.from_numpy(self.tokens[number * self.context :][: self.context].astype(np.int64))
        return {"input_ids": row, "labels": row}


class Steps(TrainerCallback):
    """Tells the clock of each step."""

    def __init__(self, clock: Clock, tokens: int) -> None:
        self.clock, self.tokens = clock, tokens

    def on_step_end(self, *_: object, **__: object) -> None:
        """A step has ended."""
        self.clock.step(self.tokens)


def main() -> None:
    """Train and report."""
    config = settings()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocabulary"],
            hidden_size=config["hidden"],
            intermediate_size=config["intermediate"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            num_key_value_heads=config["kv_heads"],
            max_position_embeddings=config["context"],
            tie_word_embeddings=True,
            **dict.fromkeys(("bos_token_id", "eos_token_id"), 0),
        )
    )
    arguments = TrainingArguments(
        output_dir=config["out"],
        max_steps=config["steps"],
        learning_rate=config["learning_rate"],
        seed=config["seed"],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    tokens = arguments.per_device_train_batch_size * config["context"]
    Trainer(
        model=model,
        args=arguments,
        train_dataset=FlatFile(config),
        data_collator=default_data_collator,
        callbacks=[Steps(clock, tokens)],
    ).train()
    model.eval()
    bits = held_out_bits_per_byte(config, lambda ids: model(ids, use_cache=False).logits)
    clock.report(bits, flops_per_token(config, matrices(model)), parameters(model))


if __name__ == "__main__":
    main()
