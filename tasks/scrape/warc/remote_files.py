"""Files over the network, by fsspec: listed, and read forwards within bounds of size and time."""

import gzip
import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.formats.compressed import DamagedFile, FileStream
from tasks.formats.symlinks import contained_matches
from tasks.http.public_addresses import names_public_host
from tasks.scrape.warc.file_systems import explain_error, open_file_system, scheme_of, without_secrets
from tasks.scrape.warc.stream_buffer import ByteStream

BLOCK_BYTES = 8 << 20
LEAST_BLOCK_BYTES = 1 << 16
LONGEST_WAIT_S = 120.0
MAX_LIST_BYTES = 64 << 20
FINAL = (FileNotFoundError, PermissionError)
"""Errors that no further try mends."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkLimits:
    """Bounds of what is read over the network: seconds a request, further tries, seconds before the first, bytes a file.

    `own_hosts`: those that the user has named, whose addresses may be private; None: any may.
    """

    timeout_s: float
    retries: int
    retry_delay_s: float
    max_file_bytes: int
    own_hosts: frozenset[str] | None = None


def is_url(path: str) -> bool:
    """Whether `path` is for fsspec: it has a scheme (and not the letter of a drive)."""
    return scheme_of(path) != ""


def expand_paths(patterns: tuple[str, ...], prefix: str, network: NetworkLimits, where: str) -> Iterator[str]:
    """The files that the patterns name, local globs and URLs (globs where the file system can list), lists of them read.

    Raises:
        UserError: a pattern matches nothing, a list or file system is out of reach, or its package is missing.
    """
    for pattern in patterns:
        for path in _matches(pattern, network, where):
            name = path.partition("?")[0]
            if name.endswith((".paths", ".paths.gz")):
                for line in _lines(path, network, where):
                    yield _listed_file(line, path, prefix, where)
            else:
                yield path


def _listed_file(line: str, listing: str, prefix: str, where: str) -> str:
    """The file that a line of a list names. A list says where archives lie, not which files and hosts are read.

    Raises:
        UserError: it lies elsewhere than below `prefix`, or the list's own host or (a local list) folder.
    """
    origins = {_origin(place) for place in (prefix, listing) if is_url(place)}
    stays = ".." not in line.replace("\\", "/").split("/")
    if is_url(line):
        scheme = scheme_of(line)
        elsewhere = scheme in ("s3", "s3a") or (scheme in ("http", "https") and names_public_host(line))
        if stays and (_origin(line) in origins or (elsewhere and not is_url(listing))):
            return line
    elif stays and prefix:
        return f"{prefix.rstrip('/')}/{line.lstrip('/')}"
    elif stays and not is_url(listing) and not Path(line).is_absolute():
        return line
    elif stays and is_url(listing):
        return f"{listing.rpartition('/')[0]}/{line.lstrip('/')}"
    raise UserError(
        f"{where}: {without_secrets(listing)}: names {without_secrets(line)!r}, which lies elsewhere than the list and `prefix`. "
        "If it is to be read, name it in `paths` yourself."
    )


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host."""
    return scheme_of(url), url.partition("://")[2].partition("/")[0].lower()


def _matches(pattern: str, network: NetworkLimits, where: str) -> list[str]:
    if not is_url(pattern):
        found = sorted(
            str(path) for path in contained_matches((path for path in _glob(pattern) if path.is_file()), pattern)
        )
    elif any(sign in pattern for sign in "*[") and scheme_of(pattern) not in ("http", "https"):
        found = _listed(pattern, network, where)
    else:
        return [pattern]
    if not found:
        raise UserError(f"{where}: paths: {pattern!r} matches no file")
    return found


def _listed(pattern: str, network: NetworkLimits, where: str) -> list[str]:
    try:
        system, path = open_file_system(pattern, network.timeout_s)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for last in _tries(network):
        try:
            return sorted(system.unstrip_protocol(name) for name in system.glob(path))
        except Exception as error:  # each file system has its own
            what = f"{without_secrets(pattern)}: cannot be listed: {explain_error(error, system)}"
            if last or isinstance(error, FINAL):
                raise UserError(f"{where}: {what}") from None
            log.warning("%s; trying again", what)
    raise AssertionError


def _tries(network: NetworkLimits) -> Iterator[bool]:
    """Whether it is the last one, for each try; time passes between them."""
    wait_s = network.retry_delay_s
    for _ in range(network.retries):
        yield False
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    yield True


def _glob(pattern: str) -> Iterator[Path]:
    import glob

    yield from (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  absolute patterns too


def _lines(path: str, network: NetworkLimits, where: str) -> list[str]:
    try:
        with open_stream(path, network) as stream:
            parts: list[bytes] = []
            while block := stream.read(1 << 16):
                parts.append(block)
        content = b"".join(parts)
        if content.startswith(b"\x1f\x8b"):
            inflate = zlib.decompressobj(wbits=31)
            content = inflate.decompress(content, MAX_LIST_BYTES)
        return [line.strip() for line in content.decode().splitlines() if line.strip()]
    except (DamagedFile, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {without_secrets(path)}: cannot be read as a list of paths ({error})") from None


@contextmanager
def open_stream(path: str, network: NetworkLimits) -> Iterator[ByteStream]:
    """The bytes of a local file as they are, or of a URL.

    Raises:
        UserError: a local file cannot be opened or changes meanwhile, a file system's package is missing.
    """
    if not is_url(path):
        with FileStream(Path(path), decompress=False) as stream:
            yield stream
        return
    remote = RemoteFile(path, network)
    try:
        yield remote
    finally:
        remote.close()


class RemoteFile:
    """A file over the network, read forwards. A request that fails is tried again from the byte it had come to."""

    def __init__(self, url: str, network: NetworkLimits) -> None:
        self.url, self.at = without_secrets(url), 0
        self._full_url, self._network, self._block_bytes = url, network, BLOCK_BYTES
        self._system: Any = None
        self._file: Any = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end.

        Raises:
            DamagedFile: unreachable: what the last of the tries failed of; file_too_large.
            UserError: the package for the URL's scheme is missing.
        """
        for last in _tries(self._network):
            try:
                if self._file is None:
                    self._open()
                block: bytes = self._file.read(size)
            except UserError:
                raise
            except Exception as error:  # each file system has its own
                self.close()
                if "range requests" in str(error):  # the server knows none: read in one go, without blocks
                    self._block_bytes = 0
                elif self._block_bytes:
                    self._block_bytes = max(self._block_bytes // 4, LEAST_BLOCK_BYTES)  # to come as far as possible
                what = f"{self.url}: after {self.at} bytes: {explain_error(error, self._system)}"
                if last or isinstance(error, FINAL):
                    raise DamagedFile("unreachable", what) from None
                log.warning("%s; trying again", what)
                continue
            self.at += len(block)
            if self.at > self._network.max_file_bytes:
                raise DamagedFile("file_too_large", f"{self.url}: more than {self._network.max_file_bytes} bytes")
            return block
        raise AssertionError

    def close(self) -> None:
        """Let go of the connection."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self._system, path = open_file_system(
            self._full_url, self._network.timeout_s, not self._block_bytes, self._network.own_hosts
        )
        blocks = {"block_size": self._block_bytes, "cache_type": "readahead"}
        options = {} if self.url.startswith("memory:") else blocks
        self._file = self._system.open(path, "rb", **options)
        if not self.at:
            return
        try:
            self._file.seek(self.at)
        except (ValueError, OSError):  # a server without ranges: read on from the start
            left = self.at
            while left and (block := self._file.read(min(left, BLOCK_BYTES))):
                left -= len(block)
