"""Data sets of the Hugging Face hub, or folders of one, row by row. Code that a data set brings is never run."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.text import parquet
from tasks.text.arrow_rows import Row, Unreadable, plain_rows
from tasks.text.files import file_url
from tasks.text.hub_files import check_card, check_found, check_saved
from tasks.text.json_rows import well_formed
from tasks.text.parquet_files import plain_item
from tasks.text.parquet_pages import BATCH_ROWS
from tasks.text.row_items import Columns, Item, lost, plain, row_item

SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
FORMATS = ("arrow", "csv", "json", "parquet", "text")
NOT_THERE = ("DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError")
COMMIT = re.compile(r"@([0-9a-f]{40})/")
MEDIA = ("Audio", "Image", "Mesh", "Nifti", "Pdf", "Video")


def require_name(dataset: str, root: Path) -> None:
    """Check that a data set is a folder, or may be a name of the hub.

    Raises:
        UserError: it can be neither.
    """
    if not (root / dataset).is_dir() and (dataset.startswith((".", "/", "~")) or dataset.count("/") > 1):
        raise UserError(f"{dataset}: there is no such folder, and it is no name of the hub (owner/name).")


class Rows:
    """The rows of a split of a data set.

    Attributes:
        commit: the hub's commit that they come from; None for a folder.
        licence: what the data set's card says, or None.
    """

    def __init__(self, dataset: str, config: str | None, split: str, revision: str | None, columns: Columns) -> None:
        """Find the data set; its rows are not read yet.

        Raises:
            UserError: it, its configuration, split or columns are not there, it holds no text, or the hub is out of reach.
        """
        self._dataset, self._config, self._split, self._columns = dataset, config, split, columns
        self._folder = Path(dataset) if Path(dataset).is_dir() else None
        self.commit: str | None = None
        self.licence: str | None = None
        require_name(dataset, Path.cwd())
        try:
            saved = self._folder is not None and any((self._folder / name).is_file() for name in SAVED)
            self._rows = self._load_saved() if saved else self._load(revision)
            names = self._rows.column_names or []
        except UserError:
            raise
        except Exception as error:  # whatever datasets, fsspec or the hub's client raise
            raise UserError(_explain(dataset, error)) from None
        if names and not columns.among(names):
            raise UserError(
                f"{dataset}: has no column {columns.text!r} or {columns.messages!r}, only {', '.join(sorted(names))}. "
                "Set text_column or messages_column."
            )

    def items(self) -> Iterator[Item]:
        """The rows as documents, in the data set's order. From a damaged file on the rest is counted once.

        Raises:
            UserError: the hub goes out of reach.
        """
        fetched_at = None if self._folder else datetime.now(UTC).replace(microsecond=0)
        number = 0
        rows, decoded_here = iter(self._rows), False
        while True:
            url = f"{self._url()}#R{number + 1}"
            where = f"{self._dataset}, {self._split}, row {number + 1}"
            try:
                row = next(rows, None)
            except Exception as error:  # whatever datasets, pyarrow, fsspec or the hub's client raise
                if isinstance(error, UnicodeDecodeError) and not decoded_here:
                    rows, decoded_here = self._undecoded(number), True
                    continue
                if _is_network(error):
                    raise UserError(_explain(where, error)) from None
                yield lost(where, url, "corrupt_file", f"{where} and all after it cannot be read: {_short(error)}")
                return
            if row is None:
                return
            number += 1
            if decoded_here:
                yield replace(plain_item(row, where, url, self._columns), fetched_at=fetched_at)
                continue
            raw = well_formed(json.dumps(row, ensure_ascii=False, sort_keys=True, default=plain)).encode()
            yield row_item(json.loads(raw), where, url, raw, self._columns, fetched_at=fetched_at)

    def _undecoded(self, start: int) -> Iterator[Row | Unreadable]:
        """The rows from `start` on, for a file whose strings are not all UTF-8: `datasets` gives up at the first."""
        for table in self._rows.with_format("arrow").skip(start).iter(batch_size=BATCH_ROWS):
            for batch in table.to_batches():
                yield from plain_rows(batch, (self._columns.text, self._columns.messages))

    def _url(self) -> str:
        if self._folder:
            return f"{file_url(self._folder, Path.cwd())}/{self._split}"
        return f"hf://datasets/{self._dataset}@{self.commit or 'main'}/{self._config or 'default'}/{self._split}"

    def _load_saved(self) -> Any:
        import datasets

        assert self._folder is not None  # noqa: S101  what is saved lies in one
        check_saved(self._folder)
        found = datasets.load_from_disk(str(self._folder))
        if isinstance(found, datasets.DatasetDict):
            if self._split not in found:
                raise UserError(f"{self._dataset}: has no split {self._split!r}, only {', '.join(sorted(found))}")
            found = found[self._split]
        return _without_media(found.to_iterable_dataset(), found.features)

    def _load(self, revision: str | None) -> Any:
        import datasets

        path = str(self._folder.resolve()) if self._folder else self._dataset
        check_card(self._dataset, self._folder, revision)
        builder = datasets.load_dataset_builder(path, self._config, revision=revision)
        # The others (webdataset, pictures, sound) hold no text, or decode whatever they find.
        if builder.name not in FORMATS:
            raise UserError(f"{self._dataset}: holds {builder.name} files; text is read from {', '.join(FORMATS)}")
        of_splits = builder.config.data_files or {}
        check_found(self._dataset, self._folder, (file for named in of_splits.values() for file in named))
        files: list[str] = next(iter(of_splits.values()), [])
        found = COMMIT.search(str(files[0])) if files else None
        self.commit = found.group(1) if found else None
        self.licence = builder.info.license or (_licence(self._dataset, self.commit) if self.commit else None)
        # To pin what was found: without it the data set could move on between the two calls.
        options = parquet.datasets_options() if builder.name == "parquet" else {}
        rows = datasets.load_dataset(
            path, self._config, split=self._split, revision=self.commit or revision, streaming=True, **options
        )
        return _without_media(rows, rows.features)


def _licence(dataset: str, commit: str) -> str | None:
    """What the data set's card declares; several joined by commas."""
    from huggingface_hub import HfApi

    card = HfApi().dataset_info(dataset, revision=commit).card_data
    declared = card.get("license") if card else None
    return ", ".join(map(str, declared)) if isinstance(declared, list) else declared


def _without_media(rows: Any, features: Any) -> Any:
    """The rows without columns of pictures and sound, which would be decoded."""
    media = [name for name, feature in (features or {}).items() if type(feature).__name__ in MEDIA]
    return rows.remove_columns(media) if media else rows


def _is_network(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError | TimeoutError) or module in (
        "aiohttp",
        "httpx",
        "requests",
        "huggingface_hub",
    )


def _explain(what: str, error: Exception) -> str:
    if type(error).__name__ in NOT_THERE:
        return f"{what}: {_short(error)} Check the name and the revision; a private or gated one needs HF_TOKEN."
    if _is_network(error):
        return (
            f"{what}: the Hugging Face hub is out of reach ({_short(error)}). Check the network and HF_HUB_OFFLINE, or "
            "name a local folder of the data set."
        )
    return f"{what}: cannot be read as a data set: {_short(error)}"


def _short(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__
