"""Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300) by TRL, on replies drawn from token ids.

TRL would render a chat template and encode the text, which lets a message that spells a control token forge a turn; so the
replies are drawn here, from the ids of `ChatEncoder`, and TRL has advantages, loss, reference and the KL term.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from tasks.core.errors import UserError
from tasks.core.paths import Metrics, Outputs
from tasks.model.generation import Sampling, mixed_seed
from tasks.prefer.contexts import Context
from tasks.prefer.params import PreferParams
from tasks.prefer.replies import draw_replies
from tasks.prefer.reply_checks import ReplyChecks
from tasks.prefer.training import batch_settings, train
from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tuning.arguments import shared_arguments, use_one_device, without_printing

os.environ.setdefault(
    "TRL_EXPERIMENTAL_SILENCE", "1"
)  # it warns that rollout_func may change; the lock holds its version
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation


def train_on_rewards(trainer: GRPOTrainer, steps: int, outputs: Outputs) -> tuple[Any, Metrics]:
    """The model that the trainer has trained, with what its curve says.

    Raises:
        UserError: no reply was worth more than another.
    """
    trained, curve = train(trainer, steps, outputs, "reward")
    if all(float(row["groups_without_spread"]) == 1 for row in curve):
        raise UserError(
            "prefer: of no prompt was one reply worth more than another, so there was nothing to learn. Draw more of them "
            "(prefer.grpo.samples), hotter (prefer.grpo.temperature), or weigh the checks otherwise (prefer.reward)"
        )
    return trained, {
        "steps": steps,
        "tokens": int(curve[-1]["tokens"]),
        "reward_first": float(curve[0]["reward"]),
        "reward_last": float(curve[-1]["reward"]),
    }


def make_trainer(
    params: PreferParams,
    model: Any,
    tokenizer: Any,
    contexts: Sequence[Context],
    checks: ReplyChecks,
    longest: int,
    encoder: ChatEncoder,
    work: Path,
) -> GRPOTrainer:
    """A GRPOTrainer that walks `contexts` once, in their order; its reference is the model as it is in `model.name_or_path`."""
    sampling = Sampling(params.grpo.temperature, params.grpo.top_k, 1.0, params.seed)
    room = model.config.max_position_embeddings - longest

    def rollout(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        asked = [encoder.prompt(messages, room) for messages in prompts]
        seed = mixed_seed(sampling.seed, trainer.state.global_step, trainer.accelerator.process_index)
        with unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, gather_deepspeed3_params=trainer.args.ds3_gather_for_generation
        ) as policy:
            policy.eval()
            replies = draw_replies(policy, encoder, asked, replace(sampling, seed=seed), longest)
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
            **shared_arguments(model, work),
            **batch_settings(params),
            shuffle_dataset=False,
            num_generations=params.grpo.samples,
            max_completion_length=longest,
            temperature=sampling.temperature,  # of the log-probabilities that the loss compares
            top_k=sampling.top_k,
            learning_rate=params.grpo.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=2,
            beta=params.grpo.beta,
            logging_steps=1,
        )
    use_one_device(config)
    rows = Dataset.from_list([{"prompt": context.messages} for context in contexts])
    return without_printing(
        GRPOTrainer(
            model,
            reward_funcs=reward,
            args=config,
            train_dataset=rows,
            processing_class=tokenizer,
            rollout_func=rollout,
        )
    )
