"""Loading a model folder for evaluation or further training, on the device and threads of execution.yaml."""

import os
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.execution import load_execution


def prepare_torch() -> str:
    """Set threads as execution.yaml says, switch the Hugging Face libraries offline and quiet; returns the device."""
    for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    import datasets
    import torch
    import transformers

    execution = load_execution()
    torch.set_num_threads(execution.thread_count(1))
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    device: str = execution.device_name()
    if device == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def load_model(folder: Path, device: str) -> Any:
    """The causal language model in `folder`, fp32, in evaluation mode, on `device`.

    Raises:
        UserError: the folder holds no readable model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder}: holds no readable model ({reason}). Restore it: dvc checkout --force {folder}"
        ) from None
    return model.to(device).eval()
