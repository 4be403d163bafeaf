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

from tasks.core.errors import Interrupted
from tasks.core.paths import write_json
from tasks.core.progress import Progress
from tasks.model.curves import CurveWriter
from tasks.pretrain.checkpoints.files import Checkpoint, Checkpoints
from tasks.pretrain.checkpoints.stable import find_stable, keep_stable
from tasks.pretrain.checks.memory import check_memory
from tasks.pretrain.checks.requirements import check_compiler, check_precision, check_swapping
from tasks.pretrain.data_loader import PackedDataset
from tasks.pretrain.distributed import ProcessGroup, StopFlag, join_group
from tasks.pretrain.engine import loss_scale_state, restore_loss_scale, start_engine
from tasks.pretrain.export import full_weights, pad_token, save_model
from tasks.pretrain.launching import heartbeat
from tasks.pretrain.learner import adopt_learner, make_learner, prepare_model
from tasks.pretrain.optimizers.fragments import find_fragments, refresh_weights
from tasks.pretrain.optimizers.optimizer import MixedOptimizer
from tasks.pretrain.params import PlannedParams
from tasks.pretrain.samples import Samples
from tasks.pretrain.throughput import Throughput
from tasks.pretrain.training_step import Row, TrainingStep
from tasks.pretrain.validation import Validation

log = logging.getLogger(__name__)


def train(params: PlannedParams, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Train to the last step and save the model; returns (metrics, timings).

    `config`: pack, tokenizer, output, work (folders), device, threads.

    Raises:
        Interrupted: asked to stop; a checkpoint of the step reached is in `work`.
        UserError: no such device or precision, nothing to compile with, too little memory, or a loss that is not finite.
    """
    stop = StopFlag()
    check_precision(params.precision, config["device"])
    check_compiler(params.compile)
    check_swapping(params.offload)
    group = join_group(config["device"], config["threads"])
    return Trainer(params, config, group, stop).train()


class Trainer:
    """State of a training run on one rank."""

    def __init__(self, params: PlannedParams, config: dict[str, Any], group: ProcessGroup, stop: StopFlag) -> None:
        self.params, self.group, self.stop = params, group, stop
        pack, self.tokenizer = Path(config["pack"]), Path(config["tokenizer"])
        self.output, self.stable = Path(config["output"]), Path(config["stable"])
        description = json.loads((pack / "pack.json").read_text())
        check_memory(params, config, group, description)
        self.pad = pad_token(self.tokenizer)
        self.data = PackedDataset(pack, "train", self.pad)
        vocabulary, document_start = description["vocabulary_size"], description["document_start"]
        if config.get("start"):
            self.learner = adopt_learner(params, Path(config["start"]), vocabulary, document_start, self.pad)
        else:
            context = self.data.context_length
            self.learner = make_learner(params, vocabulary, document_start, self.pad, context, self.tokenizer)
        model = self.learner.model
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        prepare_model(self.learner, params, config["device"])
        model.to(group.device)
        self.steps = TrainingStep(params, group, self.data, self.learner.objective)
        self.lengths = self.steps.context_lengths
        self.flops = {length: self.learner.flops_per_token(length) for length in self.lengths.numbers}
        self.optimizer = MixedOptimizer(model, params, self.learner.rate_multipliers(params))
        work = Path(config["work"])
        self.engine = start_engine(model, self.optimizer, params, self.steps.micro_rows, self.steps.accumulation, work)
        fragments, sharded = find_fragments(self.engine, params.zero_stage), params.zero_stage > 0
        self.optimizer.bind(fragments, sharded, group.device)
        self.steps.bind(self.engine, self.optimizer)
        self.checkpoints = Checkpoints(
            work / "checkpoints", group, fragments, self.optimizer, sharded, params.averaged_steps
        )
        if params.compile:
            self.engine.compile()
        self.validation = Validation(
            PackedDataset(pack, "validation", self.pad),
            self.learner.objective,
            np.load(pack / "token_bytes.npy"),
            document_start,
            params.validation_tokens,
            self.steps.micro_rows,
        )
        self.samples = Samples(params.sample_prompts, self.tokenizer, document_start, self.data.context_length)
        self.step = self.tokens = 0
        self.bits_per_byte: float | None = None
        self.best: float | None = None
        self.losses: list[float] = []

    def train(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Run from the newest checkpoint, or from the start, to the end."""
        params, group = self.params, self.group
        throughput = Throughput(group, params.precision)
        loaded = self.checkpoints.load_latest() or self._load_stable()
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
                row = self.steps.take(self.step, self.tokens)
                self.step += 1
                heartbeat.beat()
                passed = None if self.learner.family.is_causal else params.batch_tokens.at(self.step - 1)
                took = time.monotonic() - started
                flops = self.flops[self.lengths.at(self.step - 1)]
                throughput.count(int(row["tokens"] or 0) - self.tokens, took, flops, passed)
                self.tokens = int(row["tokens"] or 0)
                stopped = self._finish_step(row)
                if progress:
                    shown = {
                        "loss": f"{row['loss'] or math.nan:.3f}",
                        "tokens/s": f"{throughput.tokens_per_second:,.0f}",
                    }
                    if self.bits_per_byte is not None:
                        shown["validation bits/byte"] = f"{self.bits_per_byte:.3f}"
                    progress.advance(1, **shown)
                if stopped:
                    raise Interrupted("stopped after a step")
        weights = self._weights_to_export()
        if group.is_rank_zero:
            save_model(weights, self.learner, self.tokenizer, self.output)
            if params.sample_every:
                write_json(self.output / "samples.json", self.samples.taken)
        group.barrier()
        return self._metrics(), throughput.timings()

    def _weights_to_export(self) -> dict[str, torch.Tensor]:
        best = self.checkpoints.best() if self.params.export == "best" else None
        if best and self.bits_per_byte is not None and self.best != self.bits_per_byte:
            log.info(
                "exporting %s: %.4f validation bits per byte, the last: %.4f", best.name, self.best, self.bits_per_byte
            )
            self.bits_per_byte = self.best
            return self.checkpoints.weights(best)
        return full_weights(self.engine, self.params.zero_stage)

    def _load_stable(self) -> Checkpoint | None:
        """Take up a run that was the same up to its decay, if one is kept."""
        before = self.params.steps - 1 if self.params.stable_steps is None else self.params.stable_steps
        if self.params.averaged_steps:  # which the other run does not leave
            before = min(before, self.params.averaged_steps[0] - 1)
        found = self.group.broadcast(find_stable(self.stable, before) if self.group.is_rank_zero else None)
        return self.checkpoints.load(found) if found else None

    def _finish_step(self, row: Row) -> bool:
        """Validate, record and save, where due; returns whether all ranks are to stop now."""
        params, last = self.params, self.step == self.params.steps
        if row["loss"] is not None:  # of a skipped step
            self.losses = [*self.losses[-9:], float(row["loss"])]
        row["validation_bits_per_byte"] = None
        measured, best = True, False
        if last:
            self._save(row)  # before it is evaluated
            if params.ema_decay:
                self.optimizer.use_average()
            elif params.average_checkpoints:
                self.checkpoints.use_mean()
            if params.ema_decay or params.average_checkpoints:
                refresh_weights(self.engine, params.zero_stage, self.optimizer.swapping)
        if last or self.step % params.validation_every == 0:
            measured, bits_per_byte = self.validation.measure(
                lambda inputs: self.steps.nats(inputs)[0], self.engine, self.group, self.stop
            )
            if measured:
                self.bits_per_byte = row["validation_bits_per_byte"] = bits_per_byte
                best = bits_per_byte is not None and (self.best is None or bits_per_byte < self.best)
                self.best = bits_per_byte if best else self.best
        if measured and self.curves:
            self.curves.write(row)
        if measured and params.sample_every and (last or self.step % params.sample_every == 0):
            self.samples.take(self.engine, self.group, self.step)
        stopped = not measured or (not last and self.group.all_reduce_sum(float(self.stop.raised))[0] > 0)
        due = self.step % params.checkpoint_every == 0 or self.step == params.stable_steps
        if not last and (stopped or due):
            self._save(None if measured else row, best)
        return stopped

    def _save(self, pending: Row | None, best: bool = False) -> None:
        """Write a checkpoint; `pending` is a step whose validation was broken off."""
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "bits_per_byte": self.bits_per_byte,
            "best": self.best,
            "losses": self.losses,
            "extras": self.steps.extras,
            "stability": self.steps.stability.state(),
            "samples": self.samples.taken,
            "loss_scale": loss_scale_state(self.engine),
            "pending": pending,
        }
        stable = self.step == self.params.stable_steps
        saved = self.checkpoints.save(self.step, state, self.output / "curves.csv", best, stable)
        if self.group.is_rank_zero and not pending and self.step <= (self.params.stable_steps or 0):
            keep_stable(saved, self.stable, self.params.keep_stable)
        heartbeat.beat()

    def _restore(self, state: dict[str, Any]) -> None:
        refresh_weights(self.engine, self.params.zero_stage, self.optimizer.swapping)
        restore_loss_scale(self.engine, state["loss_scale"])
        self.step, self.tokens = state["step"], state["tokens"]
        self.bits_per_byte, self.best, self.losses = state["bits_per_byte"], state["best"], state["losses"]
        self.steps.extras = state["extras"]
        self.steps.stability.restore(state["stability"])
        self.samples.taken = state["samples"]
        if state["pending"]:
            if state["pending"]["loss"] is not None:
                self.losses = self.losses[:-1]
            if self._finish_step(state["pending"]):
                raise Interrupted("stopped during validation")

    def _metrics(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "steps": self.step,
            "tokens": self.tokens,
            "epochs": round(self.steps.batch_rows.before(self.step) / len(self.data), 4),
            "training_loss": round(sum(self.losses) / len(self.losses), 6) if self.losses else None,
            "validation_bits_per_byte": None if self.bits_per_byte is None else round(self.bits_per_byte, 6),
            "validation_bits_per_byte_by_source": {n: round(v, 6) for n, v in self.validation.by_source.items()},
            "validation_rows": len(self.validation.rows),
            "spikes": self.steps.stability.spikes,
            "skipped_steps": self.steps.stability.skipped,
            **{name: round(value, 6) for name, value in self.steps.extras.items()},
        }
