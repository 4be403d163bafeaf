"""A tuned model is saved with the tokenizer of the model that it comes from, and read back."""

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from tasks.model.load import load_model
from tasks.model.tokenizer_files import copy_tokenizer
from tasks.tokens.chat_encoder import ChatEncoder


def save_tuned(model: Any, base: Path, folder: Path) -> None:
    """Write the model with the tokenizer of `base`; asserts that it loads again and gives the same logits, bit for bit."""
    encoder = ChatEncoder(base)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=encoder.start, eos_token_id=[encoder.turn_end, encoder.start], pad_token_id=encoder.pad
    )
    model.save_pretrained(folder)
    copy_tokenizer(base, folder)
    tokens = torch.tensor([encoder.prompt([{"role": "user", "content": "Hello, how are you?"}], 16)])
    if not torch.equal(logits_of(model, tokens), logits_of(load_model(folder, str(model.device)), tokens)):
        raise AssertionError(f"{folder}: the saved model does not give the logits of the tuned one")


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """fp32 [rows, length, vocabulary] logits, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=tokens.to(model.device)).logits.float().cpu()
    return logits
