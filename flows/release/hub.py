"""Sending a release to a Hugging Face hub: the model's folder with the card, and the GGUF beside it."""

from pathlib import Path

from tasks.core.errors import UserError
from tasks.model.released import GGUF, MODEL, read_facts


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload the release in `folder` to `repository` (owner/name), made if there is none; returns its address.

    The token is the environment's (HF_TOKEN) or that of `hf auth login`; it is never printed.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    read_facts(folder)
    files = {path.name: path for path in sorted((folder / MODEL).iterdir())}
    if (folder / GGUF).is_dir():
        files |= {f"{GGUF}/{path.name}": path for path in sorted((folder / GGUF).iterdir())}
    files["README.md"] = folder / "README.md"
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        return str(api.create_commit(repository, operations, commit_message=f"{folder.name}").repo_url)
    # HTTPError is of the library by which huggingface_hub asks, whichever that is.
    except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{repository}: the hub did not take the release ({type(error).__name__}: {reason}). It takes a network and a token with "
            "the right to write: HF_TOKEN in the environment"
        ) from None
