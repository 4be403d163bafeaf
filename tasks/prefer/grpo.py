"""Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300) by TRL, on replies drawn from token ids.

TRL would render a chat template and encode the text, which lets a message that spells a control token forge a turn; so the
replies are drawn here, from the ids of `ChatEncoder`, and TRL has advantages, loss, reference and the KL term.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback

from tasks.prefer.contexts import Context
from tasks.prefer.replies import Drawing, draw_replies
from tasks.prefer.reply_checks import ReplyChecks
from tasks.tokens.chat_encoder import ChatEncoder

os.environ.setdefault(
    "TRL_EXPERIMENTAL_SILENCE", "1"
)  # it warns that rollout_func may change; the lock holds its version
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation


def make_trainer(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[Context],
    checks: ReplyChecks,
    drawing: Drawing,
    settings: dict[str, Any],
    work: Path,
    encoder: ChatEncoder,
) -> GRPOTrainer:
    """A GRPOTrainer that walks `contexts` once, in their order; its reference is the model as it is in `model.name_or_path`.

    `settings` are the further arguments of `GRPOConfig` (num_generations, learning_rate, beta, ...).
    """
    room = model.config.max_position_embeddings - drawing.longest

    def rollout(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        asked = [encoder.prompt(messages, room) for messages in prompts]
        seed = [settings["seed"], trainer.state.global_step, trainer.accelerator.process_index]
        with unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, gather_deepspeed3_params=trainer.args.ds3_gather_for_generation
        ) as policy:
            policy.eval()
            replies = draw_replies(policy, encoder, asked, drawing, seed)
            policy.train()
        return {
            "prompt_ids": asked,
            "completion_ids": [reply.ids for reply in replies],
            "logprobs": None,
            "text": [reply.text for reply in replies],
            "ended": [reply.ended for reply in replies],
        }

    def reward(prompts: list[Any], text: list[str], ended: list[bool], **_: Any) -> list[float]:
        return [checks.score(checks.passed(*each)) for each in zip(prompts, text, ended, strict=True)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL itself passes arguments that transformers renamed
        config = GRPOConfig(
            output_dir=str(work / "checkpoints"),
            num_train_epochs=1,
            shuffle_dataset=False,
            max_completion_length=drawing.longest,
            temperature=drawing.temperature,  # of the log-probabilities that the loss compares
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",  # the callback asks for checkpoints by the clock
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=model.device.type == "cpu",
            fp16=False,
            **settings,
        )
    config._n_gpu = min(config.n_gpu, 1)  # without a launcher, several visible GPUs would mean nn.DataParallel
    rows = Dataset.from_list([{"prompt": context.messages} for context in contexts])
    trainer = GRPOTrainer(
        model, reward_funcs=reward, args=config, train_dataset=rows, processing_class=tokenizer, rollout_func=rollout
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
