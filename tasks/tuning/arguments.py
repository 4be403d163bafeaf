"""What TRL's trainers are told alike, whatever they train for."""

from pathlib import Path
from typing import Any

from transformers import PrinterCallback


def shared_arguments(model: Any, work: Path) -> dict[str, Any]:
    """Arguments of a trainer that walks its rows once, in their order, and writes nothing but checkpoints under `work`."""
    return {
        "output_dir": str(work / "checkpoints"),
        "num_train_epochs": 1,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # the callback asks for checkpoints by the clock
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": model.device.type == "cpu",
        "fp16": False,
    }


def use_one_device(config: Any) -> None:
    """Without a launcher, several visible GPUs would mean nn.DataParallel."""
    config._n_gpu = min(config.n_gpu, 1)


def without_printing(trainer: Any) -> Any:
    """`trainer`, which prints no dictionary at each step: the callback logs what matters."""
    trainer.remove_callback(PrinterCallback)
    return trainer
