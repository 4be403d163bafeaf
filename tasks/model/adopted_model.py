"""The model that an adopted tokenizer belongs to, as a Hugging Face folder that everything downstream loads.

It is made of the files that the tokenizer was adopted from, in fp32 and with rows of the embedding for tokens that were
added, when it is first asked for, and kept with the checkout's state: it is no output, and can be made again.
"""

import functools
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from tasks.core.errors import UserError
from tasks.core.paths import state_folder
from tasks.model.start_from import SOURCE_FILE, ModelFiles, ModelSource, fingerprint, locate_model, read_model_source
from tasks.model.tokenizer_files import copy_tokenizer


def adopted_model(tokenizer: Path) -> Path:
    """The folder of the model that the tokenizer in `tokenizer` was adopted from.

    Raises:
        UserError: the model is no longer there, or its files are others than those that the tokenizer was adopted from.
    """
    source = read_model_source(tokenizer)
    if source is None:
        raise UserError(f"{tokenizer}: was trained here and belongs to no model of somebody else")
    known = _sha256_of(tokenizer)
    models = state_folder(tokenizer.absolute().parents[1]) / "models"
    models.mkdir(exist_ok=True)
    folder = models / known[:16]
    with FileLock(models / f"{folder.name}.lock"):
        if not folder.exists():
            beside = models / f".{folder.name}.partial"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            _convert(source, tokenizer, beside)
            beside.rename(folder)
    return folder


def _sha256_of(tokenizer: Path) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in (SOURCE_FILE, "tokenizer.json"):
        digest.update((tokenizer / name).read_bytes())
    return digest.hexdigest()


def _convert(source: ModelSource, tokenizer: Path, folder: Path) -> None:
    located = locate_model(source.start_from, f"{source.enters}.start_from", source.revision)
    if fingerprint(located) != source.files:
        raise UserError(
            f"{source.start_from}: its files are others than those whose tokenizer was adopted. Adopt it again: "
            "python -m flows.pipeline --stages tokenizer --force"
        )
    model = load_adopted_model(located)
    if source.added_tokens:
        resize_embeddings(model, tokenizer, source.added_tokens)
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def load_adopted_model(located: ModelFiles) -> Any:
    """The model in fp32 on the CPU, as if it had been saved by transformers.

    Raises:
        UserError: transformers has no code for it, or its files are damaged.
    """
    import torch
    from transformers import AutoModelForCausalLM, modeling_gguf_pytorch_utils

    modeling_gguf_pytorch_utils.tqdm = functools.partial(tqdm, disable=True)  # it asks nobody whether to show a bar
    try:
        model = AutoModelForCausalLM.from_pretrained(
            located.folder, dtype=torch.float32, **located.from_pretrained_options()
        )
    except Exception as error:  # transformers, safetensors and gguf raise all kinds
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{located.folder}: holds no model that can be read ({reason})") from None
    if located.gguf:  # what was quantized is plain fp32 from here on
        model.hf_quantizer = None
        del model.config.quantization_config
    return model


def resize_embeddings(model: Any, tokenizer: Path, added: list[str]) -> None:
    """Give the embedding rows for added tokens, drawn like those that are there: their mean and spread, in each dimension.

    So the tokens differ from each other from the start, which LoRA, leaving the embedding alone, depends on; none is
    likely to be said (Hewitt 2021, "Initializing new word embeddings for pretrained language models").
    """
    import torch
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    known = model.get_input_embeddings().weight.shape[0]
    if (size := encoder.get_vocab_size(with_added_tokens=True)) > known:
        model.resize_token_embeddings(size, mean_resizing=False)
    numbers = [int(encoder.token_to_id(token) or 0) for token in added]
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix in {
            id(m): m for m in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        }.values():
            spread, mean = torch.std_mean(matrix[: min(known, min(numbers))], 0)
            matrix[numbers] = mean + spread * torch.randn(len(numbers), matrix.shape[1], generator=drawn)
