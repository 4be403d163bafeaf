"""What sources name outside the project, checked before anything runs: files and their columns, hosts, packages."""

import glob
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tasks.core.errors import UserError
from tasks.formats.file_kinds import require_package
from tasks.scrape import package_conversations
from tasks.scrape.crawler.browser import require_browser
from tasks.scrape.files import file_reader, hub_datasets
from tasks.scrape.files.row_documents import Columns
from tasks.scrape.sources import FilesSource, HuggingFaceSource, PackageSource, Source, WarcSource, WebSource
from tasks.scrape.warc.remote_files import is_url

TABLES = ("csv", "tsv", "parquet")
"""Kinds whose every row has the same columns."""


def check_source(source: Source, root: Path) -> None:
    """Check what can be told of a source at once. Relative paths are under `root`.

    Raises:
        UserError: a pattern matches no file, a table has none of the columns, no host is known, or a
            package or program is missing.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    if isinstance(source, FilesSource):
        _check_files(source, root, where)
    elif isinstance(source, WarcSource):
        for pattern in source.paths:
            if not is_url(pattern) and not glob.glob(str(root / pattern), recursive=True):  # noqa: PTH207  absolute patterns too
                raise UserError(f"{where}: paths: {pattern!r} matches no file")
    elif isinstance(source, HuggingFaceSource):
        hub_datasets.check_dataset_name(source.dataset, root)
    elif isinstance(source, PackageSource):
        package_conversations.package_folder(source.package)
    elif isinstance(source, WebSource):
        if source.render:
            require_browser(source.name)
        if source.pdf:
            require_package("pdf", where)
        _check_hosts(source, where)


def _check_files(source: FilesSource, root: Path, where: str) -> None:
    found = file_reader.find_files(source.paths, root, source.format, where)
    for kind in sorted({file.kind for file in found if file.kind}):
        require_package(kind, where)
    options = file_reader.ReadOptions(
        Columns(source.text_column, source.messages_column), source.encoding, source.max_bytes
    )
    first = {file.kind: file.path for file in reversed(found) if file.explicit and file.kind in TABLES}
    for kind, path in first.items():
        if kind is not None:
            next(file_reader.read_file(path, kind, root, options), None)


def _check_hosts(source: WebSource, where: str) -> None:
    hosts = sorted({urlsplit(url).hostname or "" for url in source.start})
    if urllib.request.getproxies():
        return  # names are the proxy's to know
    for host in hosts:
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            reason = f"{host}: {error.strerror if isinstance(error, OSError) else error}"
        else:
            return
    raise UserError(f"{where}: start: no host is known by its name ({reason}). Check the address and the network.")
