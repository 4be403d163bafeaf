"""Loading a model folder for evaluation or further training, on the device and threads of execution.yaml."""

import json
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


def no_causal_class(folder: Path) -> str | None:
    """The class of the model in `folder` (config.json) where that predicts no next token: an encoder's, an encoder-decoder's.

    transformers would load it as a causal one all the same, with weights that were trained for another thing.
    """
    try:
        classes = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return None  # what is wrong with it, loading it tells
    return next((name for name in classes if not name.endswith(("ForCausalLM", "LMHeadModel"))), None)


def load_model(folder: Path, device: str) -> Any:
    """The causal language model in `folder`, fp32, in evaluation mode, on `device`.

    Raises:
        UserError: the folder holds no readable model, or one that predicts no next token.
    """
    if other := no_causal_class(folder):
        raise UserError(
            f"{folder}: holds a {other}, which does not predict a next token, so it is neither tuned, trained on nor asked in "
            f"a chat here. transformers.{other}.from_pretrained loads it"
        )
    return load_own_class(folder, device)


def load_own_class(folder: Path, device: str, **options: Any) -> Any:
    """The model in `folder` by its own class, fp32, in evaluation mode, on `device`; `options` are `from_pretrained`'s.

    Raises:
        UserError: the folder holds no readable model.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    kind = getattr(transformers, no_causal_class(folder) or "AutoModelForCausalLM", None)
    try:
        if kind is None:
            raise ValueError(f"transformers has no class {no_causal_class(folder)}")
        model = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder}: holds no readable model ({reason}). Restore it: dvc checkout --force {folder}"
        ) from None
    return model.to(device).eval()
