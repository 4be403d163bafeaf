"""The training loop over a DeepSpeed engine: steps, validation, curves, checkpoints, and the clean stop."""

import json
import logging
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tasks.architectures.build import build_config, build_model
from tasks.architectures.flops import training_flops_per_token
from tasks.core.errors import Interrupted, UserError
from tasks.core.progress import Progress
from tasks.model.curves import CurveWriter
from tasks.model.load import load_model
from tasks.pretrain import checkpoint
from tasks.pretrain.data_loader import Batch, PackedDataset, RowSampler
from tasks.pretrain.distributed import ProcessGroup, StopFlag, check_compiler, check_precision, join_group, start_engine
from tasks.pretrain.document_isolation import require_document_isolation
from tasks.pretrain.export import full_weights, pad_token, save_model
from tasks.pretrain.optimizers import build_optimizer, learning_rate
from tasks.pretrain.params import PretrainParams
from tasks.pretrain.throughput import Throughput
from tasks.pretrain.validation import Validation

log = logging.getLogger(__name__)
Row = dict[str, float | int | None]


def train(params: PretrainParams, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Train to the last step and save the model; returns (metrics, timings).

    `config`: pack, tokenizer, output, work (folders), device, threads.

    Raises:
        Interrupted: asked to stop; a checkpoint of the step reached is in `work`.
        UserError: no such device or precision, nothing to compile with, or a loss that is not finite.
    """
    stop = StopFlag()
    check_precision(params.precision, config["device"])
    check_compiler(params.compile)
    group = join_group(config["device"], config["threads"])
    return Trainer(params, config, group, stop).train()


class Trainer:
    """State of a training run on one rank."""

    def __init__(self, params: PretrainParams, config: dict[str, Any], group: ProcessGroup, stop: StopFlag) -> None:
        self.params, self.group, self.stop = params, group, stop
        pack, self.tokenizer = Path(config["pack"]), Path(config["tokenizer"])
        self.output, self.checkpoints = Path(config["output"]), Path(config["work"]) / "checkpoints"
        description = json.loads((pack / "pack.json").read_text())
        self.pad = pad_token(self.tokenizer)
        self.data = PackedDataset(pack, "train", self.pad)
        self.batch_rows = params.global_batch_tokens // self.data.context_length
        self.order = RowSampler(len(self.data), self.batch_rows, params.seed)
        if config.get("start"):
            model = load_model(Path(config["start"]), "cpu")
            self.model_config = model.config
            require_document_isolation(model, config["start"])
        else:
            shape = params.shape(description["vocabulary_size"], self.data.context_length)
            self.model_config = build_config(shape, params.rope_theta, description["document_start"], self.pad)
            model = build_model(self.model_config, params.seed)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        rank_rows = self.batch_rows // group.size
        self.micro_rows = max(
            size for size in range(1, min(params.micro_batch_rows, rank_rows) + 1) if rank_rows % size == 0
        )
        self.accumulation = rank_rows // self.micro_rows
        model.to(group.device)
        self.engine = start_engine(model, build_optimizer(model, params), params, self.micro_rows, self.accumulation)
        if params.compile:
            self.engine.compile()
        token_bytes = np.load(pack / "token_bytes.npy")
        held_out = PackedDataset(pack, "validation", self.pad)
        self.validation = Validation(
            held_out, token_bytes, description["document_start"], params.validation_tokens, self.micro_rows
        )
        self.step = self.tokens = 0
        self.bits_per_byte: float | None = None
        self.losses: list[float] = []

    def train(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Run from the newest checkpoint, or from the start, to the end."""
        params, group = self.params, self.group
        flops = training_flops_per_token(self.model_config, self.parameters, self.data.context_length)
        throughput = Throughput(group, flops, params.precision)
        loaded = checkpoint.load_latest_checkpoint(self.engine, group, self.checkpoints, params.zero_stage)
        with ExitStack() as stack:
            curves_path = self.output / "curves.csv"
            self.curves: CurveWriter | None = None
            if group.is_rank_zero:
                self.curves = CurveWriter(
                    curves_path, loaded.folder / "curves.csv" if loaded else None, loaded.step if loaded else 0
                )
                stack.callback(self.curves.close)
            if loaded:
                log.info("continuing from the checkpoint of step %d", loaded.step)
                self._restore(loaded.state)
            else:
                log.info("training %s parameters for %d steps", f"{self.parameters:,}", params.steps)
            progress = (
                stack.enter_context(Progress("pretrain", params.steps - self.step, "steps"))
                if group.is_rank_zero
                else None
            )
            while self.step < params.steps:
                started = time.monotonic()
                row = self._train_step()
                throughput.count(int(row["tokens"] or 0) - self.tokens, time.monotonic() - started)
                self.tokens = int(row["tokens"] or 0)
                stopped = self._finish_step(row)
                if progress:
                    shown = {"loss": f"{row['loss']:.3f}", "tokens/s": f"{throughput.tokens_per_second:,.0f}"}
                    if self.bits_per_byte is not None:
                        shown["validation bits/byte"] = f"{self.bits_per_byte:.3f}"
                    progress.advance(1, **shown)
                if stopped:
                    raise Interrupted("stopped after a step")
        weights = full_weights(self.engine, params.zero_stage)
        if group.is_rank_zero:
            save_model(weights, self.model_config, self.tokenizer, self.output, self.pad)
        group.barrier()
        return self._metrics(), throughput.timings()

    def _train_step(self) -> Row:
        """One optimizer step; returns its row of the curves, without validation."""
        rows = self.order.rows_of_step(self.step)
        targets = self.data.targets(rows)  # of the global batch: the loss is its mean, however it is split
        mine = rows.reshape(self.group.size, self.accumulation, self.micro_rows)[self.group.rank]
        rate = learning_rate(self.params, self.step)
        for parameters in self.engine.optimizer.param_groups:
            parameters["lr"] = rate
        total = torch.zeros((), dtype=torch.float64, device=self.group.device)
        for number, micro in enumerate(mine):
            nats = self._nats(self.data.batch(micro)).sum()
            total += nats.detach()
            # DeepSpeed divides by the accumulated batches and averages over the ranks; the loss already is a mean.
            self.engine.backward(nats * (self.group.size * self.accumulation / targets))
            if number < self.accumulation - 1:
                self.engine.step()
        loss = self.group.all_reduce_sum(total.item())[0] / targets
        self._must_be_finite("loss", loss)
        norm = self._clip() if self.params.zero_stage == 0 else None
        self.engine.step()
        if norm is None:
            norm = float(self.engine.get_global_grad_norm())
        self._must_be_finite("gradient's norm", norm)
        self.step += 1
        return {
            "step": self.step,
            "tokens": self.tokens + targets,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
        }

    def _clip(self) -> float:
        """Clip the gradient and return its norm before that: stage 0 of DeepSpeed clips, but does not tell the norm."""
        most = self.params.clip or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), most))

    def _nats(self, batch: Batch) -> torch.Tensor:
        """Negative log-likelihood of each label, nats, fp32 [rows · context_length]; 0 where nothing is to predict."""
        inputs, positions, labels = (
            torch.from_numpy(array).to(self.group.device, non_blocking=True)
            for array in (batch.input_ids, batch.position_ids, batch.labels)
        )
        logits = self.engine(input_ids=inputs, position_ids=positions, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")

    def _must_be_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"pretrain: the {what} is {value} at step {self.step + 1}: training diverged. Lower pretrain.learning_rate "
                f"(now {self.params.learning_rate:g}) or raise pretrain.warmup_steps (now {self.params.warmup_steps})"
            )

    def _finish_step(self, row: Row) -> bool:
        """Validate, record and save, where due; returns whether all ranks are to stop now."""
        last = self.step == self.params.steps
        self.losses = [*self.losses[-9:], float(row["loss"] or 0.0)]
        row["validation_bits_per_byte"] = None
        measured = True
        if last:
            self._save(row)  # before it is evaluated
        if last or self.step % self.params.validation_every == 0:
            measured, bits_per_byte = self.validation.measure(self._nats, self.engine, self.group, self.stop)
            if measured:
                self.bits_per_byte = row["validation_bits_per_byte"] = bits_per_byte
        if measured and self.curves:
            self.curves.write(row)
        stopped = not measured or (not last and self.group.all_reduce_sum(float(self.stop.raised))[0] > 0)
        if not last and (stopped or self.step % self.params.checkpoint_every == 0):
            self._save(None if measured else row)
        return stopped

    def _save(self, pending: Row | None) -> None:
        """Write a checkpoint; `pending` is a step whose validation was broken off."""
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "bits_per_byte": self.bits_per_byte,
            "losses": self.losses,
            "pending": pending,
        }
        checkpoint.save_checkpoint(
            self.engine, self.group, self.checkpoints, self.step, state, self.output / "curves.csv"
        )

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.tokens = state["step"], state["tokens"]
        self.bits_per_byte, self.losses = state["bits_per_byte"], state["losses"]
        if state["pending"]:
            self.losses = self.losses[:-1]
            if self._finish_step(state["pending"]):
                raise Interrupted("stopped during validation")

    def _metrics(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "steps": self.step,
            "tokens": self.tokens,
            "epochs": round(self.step * self.batch_rows / len(self.data), 4),
            "training_loss": round(sum(self.losses) / len(self.losses), 6),
            "validation_bits_per_byte": None if self.bits_per_byte is None else round(self.bits_per_byte, 6),
            "validation_rows": len(self.validation.rows),
        }
