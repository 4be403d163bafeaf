"""Data sets of the Hugging Face hub, or folders of one, row by row. Code that a data set brings is never run.

`datasets` finds the files of a split; they are read as those of any source are, within the same bounds.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from tasks.core.errors import UserError
from tasks.formats.compressed import format_suffix
from tasks.formats.rows.parquet_rows import FetchRange
from tasks.scrape.files.arrow_files import read_arrow
from tasks.scrape.files.csv_files import DELIMITERS, read_csv
from tasks.scrape.files.file_reader import file_url
from tasks.scrape.files.hub_download import HubDownload
from tasks.scrape.files.hub_paths import check_data_files, check_dataset_card, check_saved_dataset
from tasks.scrape.files.json_files import read_json
from tasks.scrape.files.line_files import read_jsonl, read_text_lines
from tasks.scrape.files.parquet_files import read_parquet
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, WrongColumns, unreadable_document

BuilderName = Literal["arrow", "csv", "json", "parquet", "text"]
"""What `datasets` calls the kinds of files that hold text; the others (webdataset, pictures, sound) decode whatever they find."""
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
UNREAD = (".7z", ".rar", ".xz", ".zip")
NOT_THERE = ("DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError")
COMMIT = re.compile(r"@([0-9a-f]{40})/")
KNOWN_OPTIONS = {"name", "version", "data_dir", "data_files", "description", "features", "encoding"}
OPTIONS: dict[str, dict[str, tuple[object, ...]]] = {
    "csv": {"sep": DELIMITERS, "delimiter": DELIMITERS},
    "text": {"keep_linebreaks": (True, False)},
}
"""What a card may say of how files are read, beside the encoding, and which values are done."""
FIRST_ROWS = 1000
"""If none of them has the columns, the names of the columns are wrong."""


def check_dataset_name(dataset: str, root: Path) -> None:
    """Check that a data set is a folder, or may be a name of the hub.

    Raises:
        UserError: it can be neither.
    """
    if not (root / dataset).is_dir() and (dataset.startswith((".", "/", "~")) or dataset.count("/") > 1):
        raise UserError(f"{dataset}: there is no such folder, and it is no name of the hub (owner/name).")


class HubDataset:
    """The rows of a split of a data set.

    Attributes:
        commit: the hub's commit that they come from; None for a folder.
        licence: what the data set's card says, or None.
    """

    def __init__(
        self, dataset: str, config: str | None, split: str, revision: str | None, columns: Columns, max_bytes: int
    ) -> None:
        """Find the data set's files; they are not read yet.

        Raises:
            UserError: it, its configuration or split are not there, it holds no text, its card asks for what is not done
                here, or the hub is out of reach.
        """
        self._dataset, self._split, self._columns, self._max_bytes = dataset, split, columns, max_bytes
        self._folder = Path(dataset) if Path(dataset).is_dir() else None
        self.commit: str | None = None
        self.licence: str | None = None
        self._encoding: str | None = None
        self._tabs = False
        check_dataset_name(dataset, Path.cwd())
        try:
            saved = self._folder is not None and any((self._folder / name).is_file() for name in SAVED)
            self._kind, self._files = self._saved() if saved else self._found(config, revision)
        except UserError:
            raise
        except Exception as error:  # whatever datasets, fsspec or the hub's client raise
            raise UserError(_explain(dataset, error)) from None

    def documents(self, work: Path) -> Iterator[ScrapedDocument]:
        """The rows as documents, in the data set's order. `work`: a folder for what is fetched, emptied in the end.

        Raises:
            WrongColumns: the data set has not the columns.
            UserError: the hub goes out of reach.
        """
        fetched_at = None if self._folder else datetime.now(UTC).replace(microsecond=0)
        lacking = 0
        try:
            for number, address in enumerate(self._files):
                try:
                    for document in self._read(address, work):
                        lacking = lacking + 1 if lacking >= 0 and self._lacks_columns(document) else -1
                        if lacking == FIRST_ROWS:
                            raise WrongColumns(f"{document.detail}. Set text_column or messages_column.")
                        yield dataclasses.replace(document, fetched_at=fetched_at)
                except WrongColumns as error:
                    if number == 0 or lacking == FIRST_ROWS:
                        raise
                    yield unreadable_document(address, self._url(address), "no_text_column", str(error))
        except UserError:
            raise
        except Exception as error:
            if not _is_network(error):
                raise
            raise UserError(_explain(self._dataset, error)) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _read(self, address: str, work: Path) -> Iterator[ScrapedDocument]:
        url = self._url(address)
        if PurePosixPath(address).suffix.lower() in UNREAD:
            yield unreadable_document(url, url, "unknown_kind", f"{url}: unpack it, or name its files as a source.")
            return
        if self._folder:
            yield from self._rows(Path(address), url)
            return
        with HubDownload(address, work / PurePosixPath(address).name) as copy:
            if self._kind == "parquet":
                copy.fetch_footer()
                documents = self._rows(copy.path, url, copy.fetch)
            else:
                copy.fetch_all()
                documents = self._rows(copy.path, url)
            for document in documents:
                detail = document.detail and document.detail.replace(str(copy.path), url)
                yield dataclasses.replace(document, where=document.where.replace(str(copy.path), url), detail=detail)

    def _rows(self, path: Path, url: str, fetch: FetchRange | None = None) -> Iterator[ScrapedDocument]:
        columns, encoding, most = self._columns, self._encoding, self._max_bytes
        if self._kind == "parquet":
            return read_parquet(path, url, columns, most, fetch)
        if self._kind == "arrow":
            return read_arrow(path, url, columns, most)
        if self._kind == "csv":
            return read_csv(path, url, columns, encoding, most, self._tabs or format_suffix(path) in (".tsv", ".tab"))
        if self._kind == "text":
            return read_text_lines(path, url, columns, encoding, most)
        as_lines = format_suffix(path) in (".jsonl", ".ndjson")
        return (read_jsonl if as_lines else read_json)(path, url, columns, encoding, most)

    def _lacks_columns(self, document: ScrapedDocument) -> bool:
        if document.reason != "no_text":
            return False
        try:
            return not self._columns.present_in(json.loads(document.content))
        except ValueError:  # CSV, whose header is checked
            return False

    def _url(self, address: str) -> str:
        return file_url(Path(address), Path.cwd()) if self._folder else address

    def _saved(self) -> tuple[BuilderName, list[str]]:
        assert self._folder is not None  # noqa: S101  what is saved lies in one
        check_saved_dataset(self._folder)
        folder = self._folder
        if (folder / SAVED[0]).is_file():
            splits = json.loads((folder / SAVED[0]).read_bytes())["splits"]
            self._require_split(splits)
            folder /= self._split
        state = json.loads((folder / SAVED[1]).read_bytes())
        if state.get("_indices_data_files"):
            raise UserError(f"{folder}: rows are chosen by an index. Save it anew: flatten_indices(), save_to_disk().")
        files = [folder / file["filename"] for file in state["_data_files"]]
        check_data_files(self._dataset, self._folder, files)
        return "arrow", list(map(str, files))

    def _found(self, config: str | None, revision: str | None) -> tuple[BuilderName, list[str]]:
        import datasets

        path = str(self._folder.resolve()) if self._folder else self._dataset
        check_dataset_card(self._dataset, self._folder, revision)
        builder = datasets.load_dataset_builder(path, config, revision=revision)
        kinds = get_args(BuilderName)
        if builder.name not in kinds:
            raise UserError(f"{self._dataset}: holds {builder.name} files; text is read from {', '.join(kinds)}")
        splits = {str(name): list(map(str, files)) for name, files in (builder.config.data_files or {}).items()}
        check_data_files(self._dataset, self._folder, (file for files in splits.values() for file in files))
        self._require_split(splits)
        self._take_options(builder)
        files = splits[self._split]
        found = COMMIT.search(files[0])
        self.commit = found.group(1) if found else None
        self.licence = builder.info.license or (_licence(self._dataset, self.commit) if self.commit else None)
        if self._folder:
            files = [str(self._folder / Path(file).relative_to(path)) for file in files]
        return builder.name, files

    def _require_split(self, splits: Any) -> None:
        if self._split not in splits:
            raise UserError(f"{self._dataset}: has no split {self._split!r}, only {', '.join(sorted(splits))}")

    def _take_options(self, builder: Any) -> None:
        """What the data set's card says of how its files are to be read."""
        given, usual = vars(builder.config), vars(type(builder.config)())
        known = OPTIONS.get(builder.name, {})
        for key in sorted(set(usual) - KNOWN_OPTIONS):
            if given[key] != usual[key] and given[key] not in known.get(key, ()):
                raise UserError(
                    f"{self._dataset}: its card asks for {builder.name} files to be read with {key}: {given[key]!r}, which "
                    "is not done here. Convert them (to JSON Lines, say), and name those."
                )
        encoding = given.get("encoding")
        self._encoding = None if encoding == usual.get("encoding") else encoding
        self._tabs = "\t" in (given.get("sep"), given.get("delimiter"))


def _licence(dataset: str, commit: str) -> str | None:
    """What the data set's card declares; several joined by commas."""
    from huggingface_hub import HfApi

    card = HfApi().dataset_info(dataset, revision=commit).card_data
    declared = card.get("license") if card else None
    return ", ".join(map(str, declared)) if isinstance(declared, list) else declared


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
