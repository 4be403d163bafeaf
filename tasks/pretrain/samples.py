"""Samples: how the model continues given texts while it is trained, so that somebody who looks on can read what it learns."""

import logging
from pathlib import Path
from typing import Any

import torch

from tasks.pretrain.distributed import ProcessGroup

log = logging.getLogger(__name__)
MAX_TOKENS = 32


class Samples:
    """The likeliest continuations of `prompts`, in up to `MAX_TOKENS` tokens.

    Attributes:
        taken: what was written so far: step, prompt and text of each.
    """

    def __init__(self, prompts: list[str], tokenizer: Path, document_start: int, context_length: int) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self.prompts, self.document_start, self.context_length = prompts, document_start, context_length
        self.taken: list[dict[str, Any]] = []

    @torch.no_grad()
    def take(self, engine: Any, group: ProcessGroup, step: int) -> None:
        """Continue every prompt with the model as it is. Collective: at ZeRO stage 3 no rank has it alone."""
        engine.eval()
        for prompt in self.prompts:
            tokens = [self.document_start, *self.tokenizer.encode(prompt, add_special_tokens=False).ids]
            begun = len(tokens)
            for _ in range(MAX_TOKENS):
                inputs = torch.tensor([tokens[-self.context_length :]], device=group.device)
                following = int(engine(input_ids=inputs, use_cache=False).logits[0, -1].argmax())
                tokens.append(group.broadcast(following))
                if tokens[-1] == self.document_start:
                    break
            text = self.tokenizer.decode(tokens[begun:])
            self.taken.append({"step": step, "prompt": prompt, "text": text})
            log.info("step %d: %r goes on %r", step, prompt, text)
        engine.train()
