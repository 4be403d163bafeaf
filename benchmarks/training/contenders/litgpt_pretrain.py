"""litgpt's `pretrain` on a Llama of the same sizes: its own loop, initialisation, optimizer and schedule (it compiles the model).

Only the learning rate is CONFIG's; the warm-up is a twentieth of the steps, as its 2,000 are of a long run; no checkpoints.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch
from litgpt import Config
from litgpt import pretrain as recipe
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from measure import Clock, flops_per_token, held_out_bits_per_byte, matrices, parameters, settings
from torch.utils.data import DataLoader, Dataset


class FlatFile(Dataset):
    """Rows cut out of the file one after another, each with the token that follows it."""

    def __init__(self, config: dict) -> None:
        self.tokens = np.memmap(Path(config["folder"]) / "train.bin", dtype=np.uint16, mode="r")
        self.context = config["context"]

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.context

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self.tokens[number * self.context :][: self.context + 1].astype(np.int64))


class Rows(DataModule):
    """The file as litgpt wants it."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.rows, self.batch_size = FlatFile(config), 1

    def connect(self, tokenizer: object = None, batch_size: int = 1, max_seq_length: int | None = None) -> None:
        """What is known once training begins."""
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """Shuffled."""
        return DataLoader(self.rows, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """What it looks at before it begins."""
        return DataLoader(self.rows, self.batch_size)


def main() -> None:
    """Train and report."""
    config = settings()
    sizes = Config(
        name="same-sizes",
        block_size=config["context"],
        vocab_size=config["vocabulary"],
        padded_vocab_size=config["vocabulary"],
        n_layer=config["layers"],
        n_head=config["heads"],
        n_query_groups=config["kv_heads"],
        n_embd=config["hidden"],
        intermediate_size=config["intermediate"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    clock, held = Clock(), {}
    micro = min(8, config["batch_rows"])
    train = TrainArgs(
        save_interval=None,
        log_interval=1 << 30,
        global_batch_size=config["batch_rows"],
        micro_batch_size=micro,
        max_tokens=config["steps"] * config["batch_rows"] * config["context"],
        max_norm=1.0,
        lr_warmup_steps=max(1, config["steps"] // 20),
        min_lr=config["learning_rate"] / 10,
        tie_embeddings=True,
    )
    built = recipe.instantiate_torch_optimizer

    def timed(*arguments: object, **options: object) -> torch.optim.Optimizer:
        optimizer = built(*arguments, **options)
        optimizer.register_step_post_hook(lambda *_: clock.step(config["batch_rows"] * config["context"]))
        return optimizer

    recipe.instantiate_torch_optimizer = timed
    recipe.save_checkpoint = lambda fabric, state, *_: held.update(state)
    adamw = {"lr": config["learning_rate"], "weight_decay": 0.1, "betas": [0.9, 0.95]}
    with contextlib.redirect_stdout(sys.stderr):
        recipe.setup(
            "same-sizes",
            model_config=sizes,
            out_dir=Path(config["out"]),
            precision="32-true",
            data=Rows(config),
            train=train,
            eval=EvalArgs(interval=1 << 30, max_iters=1, initial_validation=False, final_validation=False),
            optimizer={"class_path": "torch.optim.AdamW", "init_args": adamw},
            devices=1,
            logger_name="csv",
            seed=config["seed"],
        )
    model = held["model"].eval()
    clock.report(held_out_bits_per_byte(config, model), flops_per_token(config, matrices(model)), parameters(model))


if __name__ == "__main__":
    main()
