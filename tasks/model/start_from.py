"""A model of somebody else to start from: how it is named, where its files lie, and what must be true of them.

It is named by a folder with a Hugging Face model or a GGUF file, a .gguf file, `package:NAME` (an installed Python package
that carries one), or `owner/name` of the Hugging Face hub, `owner/name@revision` for a commit, tag or branch. Weights are
read from safetensors and GGUF alone: pickles run code, and so would a model's own Python files, which are never looked at.
"""

import hashlib
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.core.errors import UserError

Stage = Literal["pretrain", "finetune"]
HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
DOWNLOAD_PATTERNS = ["*.json", "*.jinja", "*.safetensors", "merges.txt", "vocab.txt", "LICENSE*"]
NOT_FOUND_ERRORS = ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: a Hugging Face folder, or a GGUF file in `folder`; `revision`: the hub's commit."""

    folder: Path
    gguf: str | None = None
    revision: str | None = None

    @property
    def weight_files(self) -> list[Path]:
        if self.gguf:
            return [self.folder / self.gguf]
        return sorted(self.folder.glob("*.safetensors"))

    def from_pretrained_options(self) -> dict[str, Any]:
        """How transformers' `from_pretrained(folder, ...)` reads it, without the network and without its code."""
        return {
            "local_files_only": True,
            "trust_remote_code": False,
            **({"gguf_file": self.gguf} if self.gguf else {}),
        }

    def parameters(self) -> int:
        """How many numbers its weights hold, tied ones once; read from the files' headers."""
        if self.gguf:
            from gguf import GGUFReader

            return sum(int(tensor.n_elements) for tensor in GGUFReader(self.folder / self.gguf).tensors)
        from safetensors import safe_open

        count = 0
        for path in self.weight_files:
            with safe_open(path, "pt") as file:
                count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        return count

    def config(self) -> Any:
        """The model's configuration.

        Raises:
            UserError: it cannot be read, or is of a kind that transformers has no code for.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.folder, **self.from_pretrained_options())
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self.folder}: its configuration cannot be read ({reason})") from None


def entry_stage(pretrain: str | None, finetune: str | None) -> tuple[Stage, str] | None:
    """The stage at which a model of somebody else comes in, and its name; None: training starts from nothing.

    Raises:
        UserError: both name one.
    """
    if pretrain and finetune:
        raise UserError(
            "params.yaml: pretrain.start_from and finetune.start_from: name a model in one of them: in pretrain to train it "
            "on with your text, in finetune to tune it as it is"
        )
    if pretrain:
        return "pretrain", pretrain
    return ("finetune", finetune) if finetune else None


def locate_model(name: str, key: str, revision: str | None = None) -> ModelFiles:
    """Find the model, on the hub (and in its cache) too. `key` of params.yaml leads messages; `revision` outranks the name's.

    Raises:
        UserError: it is not there, the hub is out of reach, or it holds no weights that are read here.
    """
    where = f"params.yaml: {key}: {name}"
    if name.startswith("package:"):
        return _in_folder(_package(name.removeprefix("package:"), where), where)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{where}: is no folder and no .gguf file")
        return ModelFiles(path.parent, path.name)
    if path.is_dir():
        return _in_folder(path, where)
    found = HUB_NAME.fullmatch(name)
    if not found:
        raise UserError(f"{where}: there is no such file or folder, and it is no name of the hub (owner/name@revision)")
    folder = _download(found[1], revision or found[2], where)
    located = _in_folder(folder, where)
    return ModelFiles(located.folder, located.gguf, folder.name)  # the hub's cache names a folder by the commit


def require_local_model(name: str | None, key: str) -> None:
    """Check that a model is there, unless it is to be asked for at the hub.

    Raises:
        UserError: as `locate_model`.
    """
    if name and (Path(name).expanduser().exists() or not HUB_NAME.fullmatch(name)):
        locate_model(name, key)


def _in_folder(folder: Path, where: str) -> ModelFiles:
    if (folder / "config.json").is_file():
        if any(folder.glob("*.safetensors")):
            return ModelFiles(folder)
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            raise UserError(
                f"{where}: has its weights as pickle only, which runs code when it is loaded and never is here. Take a "
                "revision with safetensors, or convert it where you trust it (save_pretrained writes safetensors)"
            )
        raise UserError(f"{where}: holds a config.json, but no weights (*.safetensors)")
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if len(files) == 1:
        return ModelFiles(folder, files[0])
    if files:
        raise UserError(f"{where}: holds {len(files)} GGUF files; name one of them: {', '.join(files[:5])}")
    raise UserError(f"{where}: holds neither a Hugging Face model (config.json) nor a .gguf file")


def _package(name: str, where: str) -> Path:
    spec = importlib.util.find_spec(re.sub(r"[-.]+", "_", name)) if re.fullmatch(r"[\w.-]+", name) else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{where}: the package is not installed. For those of requirements-models.lock: make models")
    return Path(next(iter(spec.submodule_search_locations)))


def _download(name: str, revision: str | None, where: str) -> Path:
    """The snapshot's folder in the hub's cache; what is there already is not fetched again, and serves without network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
            try:
                return Path(
                    snapshot_download(name, revision=revision, allow_patterns=DOWNLOAD_PATTERNS, local_files_only=True)
                )
            except FileNotFoundError:
                pass  # not in the cache
        return Path(snapshot_download(name, revision=revision, allow_patterns=DOWNLOAD_PATTERNS))
    except Exception as error:  # whatever the hub's client and its transport raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if type(error).__name__ in NOT_FOUND_ERRORS:
            raise UserError(
                f"{where}: {reason} Check the name and the revision; a private or gated model needs HF_TOKEN"
            ) from None
        raise UserError(
            f"{where}: there is no such folder, it is not in the hub's cache, and the Hugging Face hub is out of reach "
            f"({reason}). Check the network and HF_HUB_OFFLINE, or name a local folder"
        ) from None


def fingerprint(located: ModelFiles) -> dict[str, str]:
    """sha256 of each file that decides the model, by name."""
    files = [*located.weight_files, *([] if located.gguf else [located.folder / "config.json"])]
    return {path.name: _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ModelSource:
    """What `source.json` beside an adopted tokenizer says of the model that it belongs to.

    Attributes:
        start_from, enters, revision: its name, the stage that reads it, the hub's commit.
        files: sha256 of its files, by name.
        model_type, context_length, vocabulary_size: of its configuration.
        parameters: how many it has.
        added_tokens: control tokens that its tokenizer lacked, for which its embedding gets rows.
    """

    start_from: str
    enters: Stage
    revision: str | None
    files: dict[str, str]
    model_type: str
    context_length: int
    vocabulary_size: int
    parameters: int
    added_tokens: list[str]


SOURCE_FILE = "source.json"


def read_model_source(tokenizer: Path) -> ModelSource | None:
    """What the tokenizer in a folder was adopted from; None where it was trained here.

    Raises:
        UserError: source.json cannot be read.
    """
    path = tokenizer / SOURCE_FILE
    if not path.exists():
        return None
    try:
        return ModelSource(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Make it again: dvc repro --force tokenizer") from None
